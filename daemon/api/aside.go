package api

import "time"

// Verification is what came of looking whether a set can be used: by its writers, each of which starts its application on
// throw-away copies of the snapshots, and by the filesystems' own checkers where no writer does.
type Verification struct {
	Time     time.Time     `json:"time"` // when it began
	Duration time.Duration `json:"duration_ns"`
	// OK: there was something to check, and no check failed.
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// Check is one part of a verification: of a writer, or of the filesystem at a mount point; with neither, of the set.
type Check struct {
	Writer     string        `json:"writer,omitempty"`
	MountPoint string        `json:"mount_point,omitempty"` // of a volume that was mounted nowhere: its name
	Duration   time.Duration `json:"duration_ns"`
	Error      string        `json:"error,omitempty"` // why it failed
	// Data is what the writer had to say: which checks it made.
	Data map[string]any `json:"data,omitempty"`
}

// Report is how the backup went that a requester made of a set, and what the set's writers said to that.
type Report struct {
	Outcome string    `json:"outcome"` // ok or failed
	Time    time.Time `json:"time"`
	By      string    `json:"by,omitempty"` // the user who said so
	Writers []Told    `json:"writers,omitempty"`
}

// Outcomes of a backup.
const (
	BackupOK     = "ok"
	BackupFailed = "failed"
)

// Told is one writer that was told of a report, or why it was not.
type Told struct {
	Writer   string        `json:"writer"`
	Duration time.Duration `json:"duration_ns,omitempty"`
	Skipped  string        `json:"skipped,omitempty"` // why it was not told
	Error    string        `json:"error,omitempty"`
}

// ReportOptions say how a backup went.
type ReportOptions struct {
	Outcome string `json:"outcome"` // ok or failed
	// Force tells the writers again, of a set that was reported on already.
	Force bool `json:"force,omitempty"`
	// By is who says so; the bus fills it in.
	By string `json:"by,omitempty"`
}
