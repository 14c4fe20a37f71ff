package daemon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
)

// newID names a set: by its time in UTC, so that ids sort, and two random bytes, so that they differ. It is legal in LVM
// names and tags, file names and D-Bus paths.
func newID(t time.Time) string {
	var b [2]byte
	rand.Read(b[:]) // never fails
	return fmt.Sprintf("%s_%s", t.UTC().Format("20060102T150405"), hex.EncodeToString(b[:]))
}

func kernelRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func (d *Daemon) setRunning(t *transaction) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.running = t
}

func (t *transaction) setPhase(name string) {
	t.daemon.mu.Lock()
	defer t.daemon.mu.Unlock()
	t.phase = name
}

// dryRun plans a set and leaves it at that.
func (t *transaction) dryRun(ctx context.Context) (*api.Manifest, error) {
	t.dry = true
	if err := t.resolve(ctx); err != nil {
		return nil, err
	}
	t.manifest.State = api.Planned
	t.manifest.Consistency, t.manifest.Reasons = planned(t.plan, t.policy)
	for _, w := range t.policy.writers {
		t.manifest.Writers = append(t.manifest.Writers, describeWriter(w))
	}
	return &t.manifest, acceptable(t.manifest.Consistency, t.manifest.Reasons, t.policy)
}
