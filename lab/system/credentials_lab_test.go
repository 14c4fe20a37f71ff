//go:build lab

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// A writer reads a password that systemd has loaded for the daemon; another user's cannot; and the daemon's mounts are still the host's.
func TestCredentials(t *testing.T) {
	thinVolumes(t, 1)
	const dropIn = "/run/systemd/system/fermatad.service.d/credentials.conf"
	secret := filepath.Join(t.TempDir(), "secret")
	script := "/usr/local/bin/reads-a-password"
	for name, text := range map[string]string{
		dropIn: "[Service]\nLoadCredential=db.password:" + secret + "\n",
		secret: "open sesame\n",
		script: "#!/bin/sh\n[ $FERMATA_PHASE = freeze ] || exit 0\n{ cat $CREDENTIALS_DIRECTORY/db.password || echo denied; } >/run/password-$(id -un)\n",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const theirs = "/run/password-nobody"
	if err := os.WriteFile(theirs, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "chmod", "0666", theirs)
	labtest.Run(t, "chmod", "0600", secret)
	labtest.Run(t, "systemctl", "daemon-reload")
	t.Cleanup(func() {
		os.RemoveAll(filepath.Dir(dropIn))
		for _, name := range []string{script, "/run/password-root", theirs} {
			os.Remove(name)
		}
		labtest.Run(t, "systemctl", "daemon-reload")
		labtest.Run(t, "systemctl", "restart", "fermatad")
	})
	commands := "commands: {freeze: [" + script + "], thaw: [" + script + "]}\n"
	configure(t, map[string]string{
		"policies.d/db.yaml":  "volumes: [/srv/v1]\nwriters: [mine, theirs]\n",
		"writers.d/mine.yaml": commands, "writers.d/theirs.yaml": commands + "user: nobody\n",
	})
	m := create(t, "--policy", "db")
	read := func(name string) string {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		return string(text)
	}
	if got := read("/run/password-root"); got != "open sesame\n" {
		t.Errorf("root's writer read %q", got)
	}
	if got := read(theirs); got != "denied\n" {
		t.Errorf("another user's writer read %q", got)
	}
	must(t, "snapshot", "mount", m.ID)
	if mounts := read("/proc/self/mounts"); !strings.Contains(mounts, mounted(t, m.ID, "/srv/v1")) {
		t.Errorf("the host does not see the daemon's mounts:\n%s", mounts)
	}
	must(t, "snapshot", "delete", m.ID)
}
