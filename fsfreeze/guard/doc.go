// Package guard is the promise that nothing stays frozen: a separate process, in a unit and cgroup of its own, that
// holds a descriptor of every filesystem and the number of every device that a set is about to freeze and suspend, and
// releases them when the daemon dies, stops, or takes too long.
//
// # Protocol
//
// A SOCK_SEQPACKET socket (/run/fermata/guard.sock, mode 0600, only root). One connection is one hold.
//
//	daemon → guard   {"set":"…","deadline_ns":…,"filesystems":["/srv",…],"devices":[64768,…]}
//	                 with SCM_RIGHTS: the board, then one descriptor for each filesystem, in order
//	guard → daemon   {"armed":true}   or   {"error":"…"}
//	   … the freeze window: not a byte passes …
//	daemon → guard   {"done":true}
//	guard → daemon   {"reason":"","released":[…],"errors":[…]}
//
// Whoever wants to know whether this guard has a hold of a set asks instead, without descriptors:
//
//	daemon → guard   {"set":"…","ask":true}
//	guard → daemon   {"asked":true,"armed":true}   or   {"asked":true}: it has none, and if it had one, its note is written
//
// deadline_ns is CLOCK_MONOTONIC, absolute. End of file before "done" is the daemon's death.
//
// The board is a memfd that both sides map. Word 0 says who ended the hold: the daemon (Closed), or the guard with its
// reason; it is moved from Open once, by compare-and-swap. From word 4 on stands one fsfreeze.Cell for each device and
// then for each filesystem. So the question who may thaw what is settled in shared memory, without a message, even when
// one side is stopped between two instructions.
//
// A guard that dies after it has claimed something and before it has released it leaves that to the daemon, as a daemon that
// dies leaves everything to the guard (reclaim.go): the cells tell which of the two was at it, and the end of the connection
// that it cannot be any more. A filesystem that the dead one may just have thawed is thawed once more, because nobody can
// know; only a freeze that somebody else has begun in that moment is lost by it.
//
// Everything that a release needs (descriptors, prepared ioctls, one thread for each device and filesystem, because FITHAW may
// block) exists before the guard says that it is armed. From then to the last release one thread watches the connection and the
// clock, and makes system calls only (hold.go): it allocates nothing, writes nowhere, and waits for nobody but the kernel; the
// garbage collector rests. The report is made when nothing is held any more, the log line last of all.
package guard

// Socket is where the guard listens.
const Socket = "/run/fermata/guard.sock"

// MaxFilesystems is how many filesystems one hold can have: SCM_RIGHTS carries 253 descriptors (include/net/scm.h), one
// of them is the board.
const MaxFilesystems = 250
