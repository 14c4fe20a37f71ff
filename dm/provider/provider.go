// Package provider makes the snapshots: it arms a volume beforehand, with everything that is slow, so that inside the
// freeze window nothing is left but a few prepared device-mapper ioctls.
//
// # Life of a snapshot
//
//	Claim      may this provider take the volume?                       nothing is touched
//	Admit      is there room for the sum of the set's volumes?          nothing is touched
//	Prepare    arm: LVM's record exists, the ioctls are prepared        undone by Abort
//	Lock       nobody else changes the pool from here on                undone by Unlock
//	PreCommit  hold: suspend all origins              ⎫
//	Commit     capture: take all snapshots            ⎬ inside the freeze window
//	PostCommit release: resume all origins            ⎭
//	Unlock
//	Verify     was the pool healthy all the time?
//	Open       may be written to, for writers that recover their data on them: optional, undone by Seal
//	Finalize   the snapshots become visible, or Abort: they leave no trace
//
// A provider's part in one set is an Enlistment. Its three window methods are called on one thread, in order, after
// every filesystem of the set has been frozen; of several enlistments all PreCommits run before the first Commit and all
// Commits before the first PostCommit, which is what makes the set one instant. They must not exec, write or look up
// files, log, take a lock that anything outside could hold, or wait for anything but the kernel.
package provider

import (
	"context"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

// Volume is one block device to be captured.
type Volume struct {
	Dev        dm.Dev
	Device     string // device-mapper name
	UUID       string // device-mapper uuid
	Name       string // vg/lv, or the device-mapper name
	Size       uint64 // bytes
	MountPoint string // empty: a raw volume
	FSType     string
	// Options are what mount(2) must be told to find on an image of the volume what is mounted at MountPoint: a btrfs's
	// subvolume. A snapshot keeps them.
	Options string
	Used    uint64 // bytes that its filesystem uses; Size if nobody knows
	// COW is how large a copy-on-write area the policy wants for its snapshot, in bytes; 0: the provider decides.
	COW uint64
}

// Set is what a provider must know of the snapshot set: it ends up in the LVM tags that make a set recognisable without
// the state directory.
type Set struct {
	ID      string
	Policy  string
	Members int // volumes of the whole set, over all providers
}

// Snapshot is the image of one volume.
type Snapshot struct {
	Provider string
	Set      Set
	Name     string // vg/lv
	Origin   string // vg/lv
	// Armed: the set that it belongs to is not finished.
	Armed bool
	// Scratch: a throw-away copy of a snapshot, for writing.
	Scratch bool
	// What the tags tell of the set, for a lost state directory.
	MountPoint, FSType, Consistency string
	Machine, Host                   string // who took it: see Host; empty: not known
	Created                         int64  // Unix microseconds
	Size                            uint64
	Pool                            string // vg/lv of the pool that it has its space from; empty: none, or not known
	// Options are what mount(2) must be told to find it on its device, beside what its filesystem type needs.
	Options string
	// Volatile: a reboot takes it away.
	Volatile bool
	// Invalid says why its content is lost; empty: it is good.
	Invalid string
	// Omits are the parts of what is seen at the mount point that it does not have, as paths below that: a btrfs's nested
	// subvolumes. They are for people: printable, cut if they are long, and the last one may say how many more there are.
	Omits []string
}

// Claim is a provider's answer for one volume.
type Claim struct {
	// Name is the volume's name in the provider's own terms: vg/lv.
	Name string
	// Unheld: the provider captures the volume while it is neither frozen nor suspended, at an instant of its own inside
	// the window. A set may have one such volume: that instant is the set's. Two would be two instants.
	Unheld bool
	// Writes: Commit writes to the devices below the volume, such as a pool's metadata. Nothing that the volume rests on
	// may then be held by the same set.
	Writes bool
}

// Kind says what a provider is, and so its place in the order of choice.
type Kind string

const (
	Hardware Kind = "hardware" // a plug-in that speaks for an array
	Software Kind = "software" // any other plug-in
	BuiltIn  Kind = "built-in"
)

// Provider makes snapshots of a kind of volumes.
type Provider interface {
	Name() string
	Kind() Kind
	// Claim says whether the provider takes the volume; the error says why not. It asks the kernel only.
	Claim(v Volume) (Claim, error)
	// Admit checks that the pools have room for all of vols together. ErrNoRoom if not.
	Admit(ctx context.Context, vols []Volume) error
	// Prepare arms the volumes.
	Prepare(ctx context.Context, set Set, vols []Volume) (Enlistment, error)
	// Snapshots lists every snapshot of this provider, finished or not.
	Snapshots(ctx context.Context) ([]Snapshot, error)
	// Mark makes finished snapshots half-made again, durably: the first step of a deletion, which a crash cannot leave with
	// half a set that looks whole.
	Mark(ctx context.Context, snaps []Snapshot) error
	// Delete removes snapshots, of a finished set only after Mark.
	Delete(ctx context.Context, snaps []Snapshot) error
	// Expose makes the snapshot's device readable and returns its path; Hide undoes it, for those that are exposed.
	Expose(ctx context.Context, s Snapshot) (device string, err error)
	Hide(ctx context.Context, snaps []Snapshot) error
}

// Reading is a context in which providers that list their snapshots from one source read it once. It is for as long as
// nothing is changed.
func Reading(ctx context.Context) context.Context { return lvm.Once(ctx) }

// Enlistment is a provider's part in one set.
type Enlistment interface {
	// Origins are the devices that PreCommit suspends, in the order of the holds given to Watch.
	Origins() []dm.Dev
	// Watch gives the records that the guard shares, one for each origin. Without it PreCommit refuses.
	Watch(holds []Hold)
	// Lock keeps everybody else from changing the pools, and checks that nobody has since Prepare.
	Lock(ctx context.Context) error
	Unlock() error

	PreCommit() error
	Commit() error
	PostCommit() error

	// Verify is called after the thaw: ErrPool if the pool could have lost a write.
	Verify() error
	// Finalize makes the snapshots visible, with what the tags shall tell; created is the instant of the set.
	Finalize(ctx context.Context, f Final) ([]Snapshot, error)
	// Abort undoes Prepare, and whatever else has happened since. It may be called at any time, more than once.
	Abort(ctx context.Context) error
}

// Limiter is an enlistment whose window methods wait for a process, and must know how long they may: it is told so just
// before the window begins.
type Limiter interface {
	Limit(window time.Duration)
}

// Opener is an enlistment whose snapshots can be written to after the capture, until they are sealed. Abort may come in
// between, too; it fails as long as somebody uses their devices.
type Opener interface {
	// Open makes the snapshots' devices, to be written to.
	Open(ctx context.Context) ([]Image, error)
	// Seal takes the devices away and makes the snapshots read-only.
	Seal(ctx context.Context) error
}

// Image is a snapshot whose device is there.
type Image struct {
	Volume Volume // its origin
	Device string
}

// Final is what a finished set's tags tell.
type Final struct {
	Consistency string
	Created     int64 // Unix microseconds
}

// Introducer is a provider that has a version of its own: a plug-in.
type Introducer interface {
	Version() string
	Capabilities() []string
}

// Ailing is a provider that can tell what keeps it from working at this moment: a command that does not return.
type Ailing interface {
	Problems() []string
}

// ErrLeftBehind: a command of an earlier call still runs, and another one would wait behind it.
var ErrLeftBehind = lvm.ErrLeftBehind

// Settler is a provider whose commands may run on after their time.
type Settler interface {
	// Settle returns when none does any more.
	Settle(ctx context.Context) error
}

// Copier is a provider that can make writable throw-away copies of its snapshots.
type Copier interface {
	Copy(ctx context.Context, s Snapshot) (Snapshot, error)
}

// Mapper is a provider that knows which of a volume's blocks were ever written; all others read as zeros.
type Mapper interface {
	// Mapped asks the kernel how many bytes those blocks have.
	Mapped(v Volume) (uint64, error)
}

// Occupier is a provider that knows whether its snapshots' devices are open.
type Occupier interface {
	// InUse reports whether anybody has the snapshot's device open: a mount, a virtual machine, another device that lies on it. It
	// asks the kernel, and runs no command.
	InUse(s Snapshot) (bool, error)
}

// Grouped is a provider whose snapshots are volumes of LVM's, which anybody may remove or rename there.
type Grouped interface {
	// GroupOf is the volume group that a snapshot is in.
	GroupOf(s Snapshot) string
}

// Fleeting is a provider whose snapshots may be volatile.
type Fleeting interface {
	// Volatile reports whether a reboot may take away any of them.
	Volatile() bool
}

// Witness is a provider that can tell a snapshot that is lost from one that is out of sight: its disks are not attached.
type Witness interface {
	// Sees reports whether the place where a snapshot of this name would be is there, so that one which is not listed does not
	// exist any more. It is asked after Snapshots, with the same context.
	Sees(ctx context.Context, name string) (bool, error)
}

// Usager is a provider whose snapshots each have a copy-on-write area that can overflow.
type Usager interface {
	// Usage asks the kernel, and runs no command.
	Usage(s Snapshot) (Usage, error)
}

// Usage is the state of a snapshot's copy-on-write area. Sizes are in bytes.
type Usage struct {
	Size, Used uint64
	Metadata   uint64 // part of Used
	// Invalid: it has overflowed or lost its storage, and the snapshot's content with it.
	Invalid bool
}

// Resizer is a provider that can grow a snapshot's copy-on-write area.
type Resizer interface {
	// Resize grows the area to so many bytes, rounded up to what the provider can allot. It never shrinks it.
	Resize(ctx context.Context, s Snapshot, size uint64) error
}

// Stored is a provider whose snapshots keep what is overwritten on a filesystem of this host.
type Stored interface {
	// Storage lists the devices that this filesystem lies on, the whole stack down. A set of this provider's volumes must
	// have none of them for a volume, whichever provider takes that: the thaw of one would wait for the thaw of the other.
	Storage() ([]dm.Dev, error)
}

// Pooler is a provider whose space comes from pools.
type Pooler interface {
	Pools() ([]Pool, error)
}

// Pool is a pool's state as the kernel tells it.
type Pool struct {
	Name   string // vg/lv
	Device string
	Mode   string
	// Bytes.
	Size, Used, MetadataSize, MetadataUsed uint64
	NeedsCheck                             bool
}

// Hold records a suspended device where the guard sees it; *fsfreeze.Cell is one. See there for the transitions.
type Hold interface {
	Begin() bool
	Took(ok bool) bool
	Held() bool
	Claim() bool
	Done()
	Unclaim()
}
