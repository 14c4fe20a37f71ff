//go:build lab

package system

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// The recipe for journald against the real one: what was logged before prepare is
// in its files afterwards; a restart in between is found out.
func TestJournald(t *testing.T) {
	const dropIn = "/run/systemd/journald.conf.d/zz-test.conf"
	if err := errors.Join(os.MkdirAll("/run/systemd/journald.conf.d", 0o755), os.WriteFile(dropIn, []byte("[Journal]\nStorage=persistent\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Remove(dropIn)
		labtest.Run(t, "systemctl", "restart", "systemd-journald")
		os.RemoveAll("/var/log/journal")
	})
	labtest.Run(t, "systemctl", "restart", "systemd-journald")
	labtest.Run(t, "journalctl", "--flush")
	talk := func(between ...string) string {
		labtest.Run(t, "logger", "fermata was here")
		script := "echo prepare volumes=/var/log/journal; echo freeze; sleep 0.5; " + strings.Join(append(between, "echo thaw", "sleep 0.5"), "; ") // its end cancels what is under way
		out, err := exec.Command("bash", "-c", "{ "+script+"; } | /usr/bin/fermata-writer journald --rotate").CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return string(out)
	}
	if said := strings.Split(talk(), "\n"); !strings.HasPrefix(said[0], `ok {"directory":"/var/log/journal/`) || said[1] != "ok" || said[2] != "ok" {
		t.Errorf("it said %q", said)
	}
	complete := "journalctl --file \"$(ls -t /var/log/journal/*/system@*.journal | head -n 1)\" --grep 'fermata was here' -o cat"
	if out, _ := labtest.Try(t, "bash", "-c", complete); !strings.Contains(out, "fermata was here") {
		t.Errorf("the complete file has %q; there are %s", out, labtest.Run(t, "bash", "-c", "find /var/log/journal /run/log/journal -ls"))
	}
	if said := talk("systemctl restart systemd-journald"); !strings.Contains(said, "\nlost the connection to journald is lost") {
		t.Errorf("after a restart it said %q", said)
	}
}
