// Package rescue releases what a freeze window has left frozen or suspended when nobody is there who would: the panic
// verb, `fermata thaw`. Decide is pure: what the journal says, what is mounted, what is suspended and what was asked for
// go in, a plan comes out. Act carries it out by system calls alone.
//
// It works while the root filesystem is frozen: nothing is written, nothing is executed and nobody is spoken to before
// everything is released that can be.
//
// Devices come first, because a thaw may write to its device and waits for it in the kernel (ext4's superblock). Then
// every filesystem at once, each on a thread of its own: on Linux 6.1 FITHAW waits, uninterruptibly, for a FIFREEZE that
// is writing out (both take s_umount, fs/super.c), and one that hangs over a frozen backing file ends only when the other
// filesystem is thawed. While FIFREEZE still waits for writers, and on newer kernels until it is complete, FITHAW answers
// EINVAL, as for a filesystem that is not frozen at all; so EINVAL is asked again for a while.
package rescue
