//go:build lab

package packages

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// mounted upgrades and removes the package while somebody has a set mounted in a place of their own. An upgrade does not wait for that;
// nothing is removed.
func (h host) mounted(t *testing.T, m manager) {
	at := t.TempDir()
	labtest.Run(t, "fermata", "snapshot", "mount", h.set, "--at", at)
	defer labtest.Run(t, "fermata", "snapshot", "umount", h.set)
	t.Setenv("FERMATA_UPGRADE_WAIT", "1")
	before := property(t, "fermatad", "MainPID")
	if out := labtest.Run(t, m.to(t, "0.0.2")...); strings.Contains(out, "waiting") || property(t, "fermatad", "MainPID") == before {
		t.Errorf("the daemon was not restarted at once:\n%s", out)
	}
	out, status := labtest.Try(t, m.remove...)
	if status == 0 || !strings.Contains(out, "not removed") || !strings.Contains(out, "set "+h.set+" is mounted: "+at) {
		t.Errorf("the removal: exit status %d:\n%s", status, out)
	}
	labtest.Run(t, "mountpoint", "-q", filepath.Join(at, h.volume.Point))
}

// lateSystemctl has a set begin between the look whether anything is being done and the restart.
const lateSystemctl = `#!/bin/sh
case $1 in
try-restart)
	(fermata snapshot create -q --policy slow >/run/late 2>&1; echo "status $?" >>/run/late) </dev/null >/dev/null 2>&1 &
	while fermata status --busy restart >/dev/null; do sleep 0.1; done
	;;
esac
exec /usr/bin/systemctl "$@"
`

// late restarts the daemon in a set that began when an upgrade had just seen that there is none: the set is undone, and whoever asked
// for it is told.
func (h host) late(t *testing.T, m manager) {
	shim := t.TempDir()
	write(t, filepath.Join(shim, "systemctl"), lateSystemctl, 0o755)
	t.Setenv("PATH", shim+":"+os.Getenv("PATH"))
	before, there := property(t, "fermatad", "MainPID"), snapshots(t)
	out := labtest.Run(t, m.to(t, "0.0.1")...)
	if strings.Contains(out, "waiting") || property(t, "fermatad", "MainPID") == before {
		t.Errorf("the daemon was not restarted at once:\n%s", out)
	}
	var said string
	eventually(t, "its requester is told", func() bool {
		text, _ := os.ReadFile("/run/late")
		said = string(text)
		return strings.Contains(said, "status ")
	})
	if !strings.Contains(said, "fermatad is stopping") || strings.HasSuffix(said, "status 0\n") {
		t.Errorf("its requester is told:\n%s", said)
	}
	if got := snapshots(t); got != there {
		t.Errorf("the set has left something: %q", got)
	}
	h.volume.Writable(t)
}
