// Package api holds the words that the daemon, its bus and its clients share: the request for a snapshot set, the
// manifest of a finished one, the inventories, and the classes of errors. It has no behaviour, so that a client links
// nothing of the daemon.
//
// The JSON form of every type here is what the D-Bus properties carry, what `fermata --json` prints and what the state
// directory keeps. It is stable: fields are added, never renamed; durations are integer nanoseconds (their names end in
// _ns), sizes bytes (_bytes), instants RFC 3339 in UTC.
package api

import (
	"context"
	"time"
)

// Names on the bus.
const (
	BusName          = "org.fermata.Fermata1"
	ManagerPath      = "/org/fermata/Fermata1"
	ManagerInterface = BusName + ".Manager"
	SetInterface     = BusName + ".Set"
	JobInterface     = BusName + ".Job"
)

// Consistency is what a finished set can claim, from weakest to strongest: crash, filesystem, application.
type Consistency string

const (
	// Crash: the volumes show one instant, as after a power cut.
	Crash Consistency = "crash"
	// Filesystem: the filesystems were flushed and frozen at that instant.
	Filesystem Consistency = "filesystem"
	// Application: beyond that, every writer of the set was holding at that instant.
	Application Consistency = "application"
)

// Rank orders consistencies: a higher rank claims more. An unknown word ranks below all.
func (c Consistency) Rank() int {
	switch c {
	case Crash:
		return 1
	case Filesystem:
		return 2
	case Application:
		return 3
	}
	return 0
}

// Request asks for a snapshot set: by policy, or by volumes.
type Request struct {
	// Policy names the policy; empty: Volumes says what to take.
	Policy string `json:"policy,omitempty"`
	// Volumes are mount points or block devices, absolute paths; with a policy they must be empty.
	Volumes []string `json:"volumes,omitempty"`
	// Writers to ask in a request without policy.
	Writers []string `json:"writers,omitempty"`
	// Provider overrides the choice of provider for every volume.
	Provider string `json:"provider,omitempty"`
	// Providers overrides the choice for single volumes: mount point or block device → provider.
	Providers map[string]string `json:"providers,omitempty"`
	// Consistency is the least that is acceptable; empty: what the policy says, or the most that the request allows.
	Consistency Consistency `json:"consistency,omitempty"`
	// FailIfBusy makes a request fail at once with class Busy while another set is being taken; otherwise it waits its turn.
	FailIfBusy bool `json:"fail_if_busy,omitempty"`
	// DryRun resolves and admits, and asks nothing of anybody: the answer is the plan.
	DryRun bool `json:"dry_run,omitempty"`
	// Retry is how often a set that failed in a way that a retry can mend is tried again (0 to 10), RetryWait the pause before each.
	Retry     int           `json:"retry,omitempty"`
	RetryWait time.Duration `json:"retry_wait_ns,omitempty"`
	// Method is copy-on-write or clone; empty: what the policy says, or copy-on-write.
	Method string `json:"method,omitempty"`
	// Clone says where full copies go; what is empty is as the policy says.
	Clone CloneOptions `json:"clone,omitzero"`
	// Labels are kept in the manifest.
	Labels map[string]string `json:"labels,omitempty"`
	// Passing marks the set as taken for a use, which deletes it: see Manifest. No requester says so.
	Passing bool `json:"-"`
}

// Methods of a request.
const (
	CopyOnWrite = "copy-on-write"
	Clone       = "clone"
)

// CloneOptions of a request with method clone.
type CloneOptions struct {
	// Directory is where the copies go, an absolute path. It must not lie on a volume of the set.
	Directory string `json:"directory,omitempty"`
	// Rate is how many bytes a second are copied at most; 0: what the policy says, or no limit.
	Rate uint64 `json:"rate_bytes,omitempty"`
	// Keep the snapshots that were copied.
	Keep bool `json:"keep,omitempty"`
	// NoWait answers as soon as the set is taken and the copy has begun.
	NoWait bool `json:"no_wait,omitempty"`
}

// Progress of a copy.
type Progress struct {
	// Done and Total are bytes: each byte is copied, and then read back to verify it.
	Done  uint64 `json:"done_bytes"`
	Total uint64 `json:"total_bytes"`
}

// Percent of the work that is done.
func (p Progress) Percent() int {
	if p.Total == 0 {
		return 0
	}
	return int(100 * float64(min(p.Done, p.Total)) / float64(p.Total))
}

// Manifest is the document of a set: what it holds and how it came to be. A plan (Request.DryRun) is a manifest in
// state "planned".
type Manifest struct {
	Version int    `json:"version"` // of this format: 1
	ID      string `json:"id"`      // sorts by time: 20261120T114653_7f3a, UTC
	Policy  string `json:"policy,omitempty"`
	State   State  `json:"state"`
	// Created is the instant that the set shows: the wall clock when the volumes were captured.
	Created     time.Time         `json:"created"`
	Host        string            `json:"host,omitempty"`
	Kernel      string            `json:"kernel,omitempty"`
	Consistency Consistency       `json:"consistency"`
	Reasons     []string          `json:"reasons,omitempty"` // why the consistency is less than it could have been
	Volumes     []Snapshot        `json:"volumes"`
	Writers     []Writer          `json:"writers,omitempty"`
	Phases      []Phase           `json:"phases,omitempty"`
	Window      time.Duration     `json:"freeze_window_ns,omitempty"` // first filesystem blocked to last one released
	Duration    time.Duration     `json:"duration_ns,omitempty"`      // the whole transaction
	Labels      map[string]string `json:"labels,omitempty"`
	// CloneOf is the set that this one is a full copy of.
	CloneOf string `json:"clone_of,omitempty"`
	// Verified is the last verification of the set.
	Verified *Verification `json:"verified,omitempty"`
	// Reported is how the backup went that was made of it.
	Reported *Report `json:"reported,omitempty"`
	// Pinned: neither retention nor a full pool drops the set.
	Pinned *Pin `json:"pinned,omitempty"`
	// Lost: the document was lost, and with it whether the set is pinned; the volumes' tags tell the rest. Until somebody pins or unpins
	// it, it counts as pinned for retention and for a full pool.
	Lost bool `json:"lost,omitempty"`
	// Passing: the set was taken for a use, and is deleted after it. It takes no place of another in the retention of its policy.
	Passing bool `json:"passing,omitempty"`
	// Progress of the copy, while the state is cloning; it is not part of the stored document.
	Progress *Progress `json:"progress,omitempty"`
	// Mounts is where the set is mounted now; it is not part of the stored document.
	Mounts []Mount `json:"mounts,omitempty"`
}

// Pin keeps a set.
type Pin struct {
	Time time.Time `json:"time"`
	By   string    `json:"by,omitempty"` // the user
}

// State of a set.
type State string

const (
	// Planned: a dry run; nothing exists.
	Planned State = "planned"
	// Complete: every snapshot exists and the hold was proven.
	Complete State = "complete"
	// Cloning: it is being copied, and cannot be used yet.
	Cloning State = "cloning"
	// Damaged: a snapshot of a finished set is gone or invalid.
	Damaged State = "damaged"
	// Released: a hold without a snapshot, that lasted until it was released; nothing exists.
	Released State = "released"
)

// Snapshot is one volume of a set and its image.
type Snapshot struct {
	// Volume is the origin's name as LVM or device-mapper knows it: vg/lv.
	Volume     string `json:"volume"`
	Device     string `json:"device"`                // the origin's device-mapper name
	MountPoint string `json:"mount_point,omitempty"` // where the origin was mounted; empty: a raw volume
	FSType     string `json:"fstype,omitempty"`
	Frozen     bool   `json:"frozen"` // its filesystem was frozen at the instant
	Size       uint64 `json:"size_bytes"`
	Provider   string `json:"provider"`
	Name       string `json:"snapshot,omitempty"` // the snapshot's own name: vg/lv
	// Inside names the volumes of the set that have all of this one in them, as files of loop devices: then it was frozen
	// with the others, and has no snapshot of its own.
	Inside string `json:"inside,omitempty"`
	// Volatile: a reboot takes the snapshot away.
	Volatile bool `json:"volatile,omitempty"`
	// Omits are parts of what was seen at the mount point that the snapshot does not have (a btrfs's nested subvolumes), as
	// paths below that, for people; if there are more than 100, the last entry says how many more.
	Omits []string `json:"omits,omitempty"`
	// Invalid says why the snapshot's content is lost.
	Invalid string `json:"invalid,omitempty"`
	// COW is the snapshot's own copy-on-write area, for a provider whose snapshots have one; it is not part of the stored
	// document.
	COW *COW `json:"cow,omitempty"`
	// COWUnknown says why nobody knows how full that area is.
	COWUnknown string `json:"cow_unknown,omitempty"`
	// Refused says, in a plan, why other providers do not take the volume.
	Refused map[string]string `json:"refused,omitempty"`
}

// COW is the state of a copy-on-write area. When it is full, the snapshot is lost.
type COW struct {
	Size     uint64 `json:"size_bytes"`
	Used     uint64 `json:"used_bytes"`
	Metadata uint64 `json:"metadata_bytes"` // part of Used
}

// Mount is one mounted snapshot of a set.
type Mount struct {
	MountPoint string `json:"mount_point"` // of the origin
	Path       string `json:"path"`        // where the snapshot is mounted; empty: a raw volume, to be read at Link
	Device     string `json:"device"`
	Link       string `json:"link,omitempty"` // to Device: /dev/fermata/SET/VOLUME
	Writable   bool   `json:"writable"`       // a throw-away copy of the snapshot
}

// Phase is how long one phase of the transaction took, from the monotonic clock.
type Phase struct {
	Name     string        `json:"name"`
	Start    time.Duration `json:"start_ns"` // since the transaction began; of a writer's phase 0: nobody knows
	Duration time.Duration `json:"duration_ns"`
	Window   bool          `json:"window,omitempty"` // inside the freeze window; of a writer: its hold
	Error    string        `json:"error,omitempty"`
}

// Writer is a writer's part in a set, or, in an inventory, its declaration.
type Writer struct {
	Name       string      `json:"name"`
	Type       string      `json:"type"`
	Level      string      `json:"level"`
	Required   bool        `json:"required"`
	OnFailure  string      `json:"on_failure,omitempty"` // abort or degrade
	State      string      `json:"state,omitempty"`      // inactive, prepared, holding, released (held to the end), failed
	Components []Component `json:"components,omitempty"`
	// Phases are the writer's own times.
	Phases []Phase `json:"phases,omitempty"`
	// Data is what the writer had to say for the record, by phase: positions in its log, labels.
	Data map[string]any `json:"data,omitempty"`
	// Registered is the unique bus name of the service that has registered the writer, in an inventory.
	Registered string `json:"registered,omitempty"`
	// Last is what the writer did the last time, and LastFailure when it failed, if that was another time; in an inventory,
	// since the daemon started.
	Last        *WriterRun `json:"last,omitempty"`
	LastFailure *WriterRun `json:"last_failure,omitempty"`
	// Problem says why a declared writer cannot be used.
	Problem string `json:"problem,omitempty"`
}

// Component is a group of files of a writer that belong together.
type Component struct {
	Name          string   `json:"name"`
	Paths         []string `json:"paths,omitempty"`
	Excludes      []string `json:"excludes,omitempty"`
	LogFiles      []string `json:"log_files,omitempty"`
	RestoreMethod string   `json:"restore_method,omitempty"`
}

// Policy is an entry of the inventory of policies.
type Policy struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Volumes     []string `json:"volumes,omitempty"`
	Writers     []string `json:"writers,omitempty"`
	Consistency string   `json:"consistency,omitempty"` // the least that is acceptable
	Method      string   `json:"method,omitempty"`
	Prunes      bool     `json:"prunes,omitempty"`   // its retention drops sets
	Schedule    []string `json:"schedule,omitempty"` // calendar expressions (systemd.time(7))
	// Interval is the longest time between two runs by the schedule; 0 without one.
	Interval time.Duration `json:"interval_ns,omitempty"`
	Sets     int           `json:"sets"` // that exist, taken by this host
	// Changed is when the policy's file was changed last.
	Changed time.Time `json:"changed,omitzero"`
	// Last is when the newest of them was taken that is not damaged.
	Last time.Time `json:"last,omitzero"`
	// LastRun is how the last request for a set of it ended, since the daemon started.
	LastRun *PolicyRun `json:"last_run,omitempty"`
	// Problem says why it is disabled.
	Problem string `json:"problem,omitempty"`
}

// Verdict is what retention makes of a set.
type Verdict struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Keep    bool      `json:"keep"`
	Reasons []string  `json:"reasons"` // for keeping or dropping it
	Deleted bool      `json:"deleted,omitempty"`
	Error   string    `json:"error,omitempty"` // why it could not be deleted
}

// Provider is an entry of the inventory of providers.
type Provider struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`              // built-in, software, hardware; empty if a plug-in could not be asked
	Version string `json:"version,omitempty"` // a plug-in's own
	Usable  bool   `json:"usable"`
	// Capabilities beyond taking snapshots: of a built-in one copy (writable copies), pools, usage and resize (copy-on-write
	// areas); what a plug-in says of itself: see docs/providers.md.
	Capabilities []string `json:"capabilities,omitempty"`
	Problem      string   `json:"problem,omitempty"`
}

// Pool is where snapshot space comes from.
type Pool struct {
	Name         string `json:"name"` // vg/lv
	Provider     string `json:"provider"`
	Device       string `json:"device"`
	Mode         string `json:"mode"` // rw, ro, out_of_data_space, fail
	Size         uint64 `json:"size_bytes"`
	Used         uint64 `json:"used_bytes"`
	MetadataSize uint64 `json:"metadata_size_bytes"`
	MetadataUsed uint64 `json:"metadata_used_bytes"`
	NeedsCheck   bool   `json:"needs_check,omitempty"`
	// Level is ok, warning, critical, exhausted or failed; empty: nobody watches. Reason says why it is not ok.
	Level  string `json:"level,omitempty"`
	Reason string `json:"reason,omitempty"`
	// Trend of the data and of the metadata.
	Trend         Trend `json:"trend,omitzero"`
	MetadataTrend Trend `json:"metadata_trend,omitzero"`
	// LastAct is what was done about it last, since the daemon started; only in an overview.
	LastAct *PoolAct `json:"last_act,omitempty"`
}

// Trend is how something fills up. The zero Trend says that too little has been seen to tell.
type Trend struct {
	// Steady: it does not grow.
	Steady bool `json:"steady,omitempty"`
	// FullIn is when it is full if it goes on like this; 0: it is steady, or nobody knows.
	FullIn time.Duration `json:"full_in_ns,omitempty"`
}

// Volume is an entry of the inventory of volumes: a block device with the mounts above it and the disks below it.
type Volume struct {
	Name        string   `json:"name"` // vg/lv, or the kernel's name
	Device      string   `json:"device"`
	Size        uint64   `json:"size_bytes"`
	FSType      string   `json:"fstype,omitempty"`
	MountPoints []string `json:"mount_points,omitempty"`
	Disks       []string `json:"disks,omitempty"`
	Provider    string   `json:"provider,omitempty"` // which would take it
	// Refused says why other providers do not take the volume.
	Refused   map[string]string `json:"refused,omitempty"`
	Freezable bool              `json:"freezable"`
	Unfrozen  string            `json:"unfrozen,omitempty"` // why it cannot be frozen
	// Problem says why no provider takes it, or why it cannot be frozen.
	Problem string `json:"problem,omitempty"`
	// Stack is everything from the mount, or from the volume where none is, down to the disks.
	Stack *Node `json:"stack,omitempty"`
}

// NodeKind says what a node of a stack is.
type NodeKind string

const (
	NodeMount        NodeKind = "mount"
	NodeFilesystem   NodeKind = "filesystem"
	NodeLVM          NodeKind = "lvm" // a logical volume, or a hidden layer of one
	NodeDeviceMapper NodeKind = "device-mapper"
	NodeLoop         NodeKind = "loop"
	NodeFile         NodeKind = "file" // that a loop device shows
	NodeMD           NodeKind = "md"
	NodePartition    NodeKind = "partition"
	NodeDisk         NodeKind = "disk"
)

// Node is one part of a volume's stack, with the parts that it rests on.
type Node struct {
	Kind NodeKind `json:"kind"`
	// Name is a mount point, a filesystem's type, vg/lv, a name of device-mapper or of the kernel, or a file's path.
	Name string `json:"name"`
	// MountPoints are all those of the filesystem, if there are several.
	MountPoints []string `json:"mount_points,omitempty"`
	Device      string   `json:"device,omitempty"` // MAJOR:MINOR
	Size        uint64   `json:"size_bytes,omitempty"`
	// Targets are the types of a device-mapper table, each once, or the level of an md array.
	Targets []string `json:"targets,omitempty"`
	// Layer is what a hidden device of LVM is for: tpool, tdata, tmeta, real, cow.
	Layer       string `json:"layer,omitempty"`
	UUID        string `json:"uuid,omitempty"` // device-mapper's
	BackingFile string `json:"backing_file,omitempty"`
	Problem     string `json:"problem,omitempty"` // why what lies below is not known
	Below       []Node `json:"below,omitempty"`
}

// Status is the daemon's state at a glance.
type Status struct {
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Sets     int       `json:"sets"`
	Running  string    `json:"running,omitempty"` // the set being taken
	Phase    string    `json:"phase,omitempty"`   // and its phase
	Waiting  int       `json:"waiting"`           // requests that wait their turn
	Guard    string    `json:"guard"`             // ok, or why it cannot be reached
	Problems []string  `json:"problems,omitempty"`
	// Recovered says what was undone when the daemon started.
	Recovered []string `json:"recovered,omitempty"`
	// Busy is what somebody has from the daemon now.
	Busy []Occupation `json:"busy,omitempty"`
}

// Occupation is something that the daemon does or keeps for somebody, who would miss it if the daemon ended.
type Occupation struct {
	What string `json:"what"` // for people
	// OutlivesRestart: a daemon that is started anew goes on with it. Without any daemon it is left half-made, or in use.
	OutlivesRestart bool `json:"outlives_restart"`
}

// MountOptions of a set.
type MountOptions struct {
	// Writable mounts throw-away copies of the snapshots; the set itself never changes.
	Writable bool `json:"writable,omitempty"`
	// Target is the directory under which the set's mounts appear, structured as the live paths; empty: below the
	// daemon's mount directory, by policy and time.
	Target string `json:"target,omitempty"`
}

// ResizeOptions say how large the copy-on-write areas of a set's snapshots shall be.
type ResizeOptions struct {
	// Volume is the one whose snapshot is meant: its name, mount point or device; empty: all of the set.
	Volume string `json:"volume,omitempty"`
	// Size in bytes, of each; or, if Grow, so many more than it has.
	Size uint64 `json:"size_bytes"`
	Grow bool   `json:"grow,omitempty"`
}

// Service is what the daemon does for a requester. The bus exports it; clients call it through the bus.
type Service interface {
	// CreateSet takes a set, or plans it. Progress is called with each phase that begins, and must not block.
	CreateSet(ctx context.Context, r Request, progress func(phase string)) (*Manifest, error)
	Quiescer
	Lender
	WriterTester
	Sets() []Manifest // newest last
	DeleteSet(ctx context.Context, id string) error
	MountSet(ctx context.Context, id string, o MountOptions) ([]Mount, error)
	UmountSet(ctx context.Context, id string) error
	// ResizeSet grows copy-on-write areas, and returns the volumes whose snapshots were meant, as they are then.
	ResizeSet(ctx context.Context, id string, o ResizeOptions) ([]Snapshot, error)
	// VerifySet looks whether a set can be used; that it cannot is a result. Progress is as for CreateSet.
	VerifySet(ctx context.Context, id string, progress func(phase string)) (*Verification, error)
	// ReportSet takes down how the backup of a set went, and tells the set's writers.
	ReportSet(ctx context.Context, id string, o ReportOptions) (*Report, error)
	// PinSet keeps a set, whatever its policy's retention says, until UnpinSet. By is the user who wants that.
	PinSet(ctx context.Context, id, by string) error
	UnpinSet(ctx context.Context, id string) error
	Policies() []Policy
	// PrunePolicy deletes the sets of a policy that its retention does not keep; a dry run only says which. What could not be
	// deleted says so in its verdict, and is no error. Newest set first.
	PrunePolicy(ctx context.Context, name string, dryRun bool) ([]Verdict, error)
	Writers() []Writer
	Providers() []Provider
	PoolKeeper
	Volumes(ctx context.Context) ([]Volume, error)
	Status() Status
}
