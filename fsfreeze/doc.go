// Package fsfreeze holds filesystems still and lets them go.
//
// FIFREEZE makes a filesystem write everything out and block whoever writes next; FITHAW releases it (fs/ioctl.c,
// fs/super.c). The kernel gives no time-out, no owner that could die, and no way to ask whether a filesystem is frozen:
// a freeze outlives the process that made it. So every freeze here is recorded in a Cell that the guard (package
// fsfreeze/guard) shares, and whoever moves the cell from held to releasing thaws: exactly one FITHAW for each own
// FIFREEZE, because a second one can take somebody else's freeze away.
//
// A freeze belongs to a superblock, not to a mount point: bind mounts and subvolumes of one filesystem are one
// Filesystem here. The stack below it (device-mapper, loop, disks) is read from sysfs, and decides the order: a
// filesystem on a loop device is frozen before the one that holds the loop's file, because a freeze over a frozen
// backing file hangs uninterruptibly.
package fsfreeze
