package daemon

import (
	"os"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
)

// Who has a set mounted, wherever that is, would miss the daemon; so would a copy that is under way. Both outlive a restart.
func TestOccupations(t *testing.T) {
	w, d, id := mountable(t)
	busy := func(d *Daemon, want string) {
		t.Helper()
		got := d.Status().Busy
		if want == "" && len(got) == 0 {
			return
		}
		if len(got) != 1 || !got[0].OutlivesRestart || want == "" || !strings.Contains(got[0].What, want) {
			t.Errorf("busy with %+v, not %q", got, want)
		}
	}
	busy(d, "")
	at := t.TempDir()
	if _, err := d.MountSet(t.Context(), id, api.MountOptions{Target: at}); err != nil {
		t.Fatal(err)
	}
	busy(d, "set "+id+" is mounted: "+at)
	d = w.daemon()
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	busy(d, "set "+id+" is mounted: "+at)
	if err := os.WriteFile(d.mountRecordPath("other"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := d.Status().Busy; len(got) != 2 {
		t.Errorf("a record that cannot be read: %+v", got)
	}
	if err := os.Remove(d.mountRecordPath("other")); err != nil {
		t.Fatal(err)
	}
	if err := d.UmountSet(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	busy(d, "")
}
