// Package lvm drives LVM by its own tools: it is the only place in Fermata that executes lvm.
//
// There is no library worth having, and LVM's metadata are nobody else's to write. Three habits keep it safe:
//
//   - A child is never killed: a killed lvcreate leaves a volume group worse than a slow one. When the caller's time is
//     over the child goes on alone, Busy and Wait tell of it, and the caller reconciles afterwards.
//   - No lvm runs while a filesystem is frozen: it would write its archive to a frozen /etc and sit in D state with the
//     volume group's lock (KERNEL: reproduced). So the freeze window begins after Wait.
//   - What LVM must not do meanwhile, LockVG prevents with LVM's own lock file.
//
// Everything that is read comes from JSON reports with fixed units; no message text is ever interpreted.
package lvm
