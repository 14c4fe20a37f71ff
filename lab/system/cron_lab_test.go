//go:build lab

package system

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// postman stands for the mail system: cron sends what a job prints.
const postman = `#!/bin/sh
mkdir -p /run/mails
cat >/run/mails/$$.new
mv /run/mails/$$.new /run/mails/$$
`

// The line of docs/backup.md, run by a real cron: it is quiet when all is well, says in one line what is not, and exits with status 75
// where another set is being taken and it is not to wait.
func TestCron(t *testing.T) {
	moveClock(t)
	thinVolumes(t, 1)
	configure(t, map[string]string{
		"policies.d/db.yaml":      "volumes: [/srv/v1]\nretention: {keep_last: 2}\n",
		"policies.d/nowhere.yaml": "volumes: [/srv/nowhere]\n",
		"policies.d/slow.yaml":    "volumes: [/srv/v1]\nwriters: [slow]\n",
		"writers.d/slow.yaml":     "session: [/usr/bin/fermata-writer, test, --delay, 15s, --delay-at, prepare]\n",
	})
	blocks := manual(t, "Snapshots only")
	line := strings.Replace(blocks[0], "--jitter 1m", "--jitter 1s", 1)
	if !strings.Contains(line, "--jitter 1s db") {
		t.Fatalf("the manual has %s", line)
	}
	place := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(name) })
	}
	place("/usr/sbin/sendmail", postman, 0o755)
	place("/etc/cron.d/fermata", line, 0o644)
	place("/etc/cron.d/nowhere", strings.ReplaceAll(line, " db ", " nowhere "), 0o644)
	place("/etc/cron.d/impatient", strings.ReplaceAll(line, " db >/dev/null", " --if-busy fail db >/dev/null; echo $? >/run/impatient"), 0o644)
	t.Cleanup(func() {
		os.RemoveAll("/run/mails")
		os.Remove("/run/impatient")
	})

	// At 14 minutes and 55 seconds of an hour; the job is due 5 seconds later.
	setClock(t, time.Now().Truncate(time.Hour).Add(time.Hour+15*time.Minute-5*time.Second))
	slow := exec.Command("fermata", "snapshot", "create", "--policy", "slow", "-q")
	if err := slow.Start(); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "systemctl", "start", "cron")
	t.Cleanup(func() { labtest.Run(t, "systemctl", "stop", "cron") })
	mails := func() []string {
		found, _ := filepath.Glob("/run/mails/*[0-9]")
		return found
	}
	eventually(t, "two jobs have something to say", func() bool { return len(mails()) >= 2 })
	if err := slow.Wait(); err != nil {
		t.Errorf("the set that the others met: %v", err)
	}
	eventually(t, "the third has made its set", func() bool { return len(sets(t)) == 2 })
	all := ""
	for _, name := range mails() {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		_, body, _ := strings.Cut(string(text), "\n\n")
		if strings.Count(body, "\n") != 1 || !strings.HasPrefix(body, "fermata: cannot ") {
			t.Errorf("a mail is not one line:\n%s", text)
		}
		all += body
	}
	if n := len(mails()); n != 2 || !strings.Contains(all, "/srv/nowhere") || !strings.Contains(all, "another set is being taken") {
		t.Errorf("%d mails:\n%s", n, all)
	}
	if status, err := os.ReadFile("/run/impatient"); string(status) != "75\n" {
		t.Errorf("who would not wait has exit status %q, %v", status, err)
	}
	for _, m := range sets(t) {
		must(t, "snapshot", "delete", m.ID)
	}
}

// A run that fails has the unit started that the schedule names, and one that does not has not.
func TestOnFailure(t *testing.T) {
	thinVolumes(t, 1)
	const unit, told = "/etc/systemd/system/tell@.service", "/run/told"
	if err := os.WriteFile(unit, []byte("[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo \"%i\" >>"+told+"'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.Remove(unit)
		os.Remove(told)
		labtest.Run(t, "systemctl", "daemon-reload")
	})
	schedule := "schedule: {at: yearly, on_failure: 'tell@%n.service'}\n"
	configure(t, map[string]string{
		"policies.d/good.yaml":    "volumes: [/srv/v1]\n" + schedule,
		"policies.d/nowhere.yaml": "volumes: [/srv/nowhere]\n" + schedule,
	})
	must(t, "policy", "apply")
	t.Cleanup(func() {
		for _, name := range []string{"good", "nowhere"} {
			labtest.Run(t, "systemctl", "stop", fmt.Sprintf("fermata-policy@%s.timer", name))
		}
	})
	labtest.Run(t, "systemctl", "start", "fermata-policy@good.service")
	if out, status := labtest.Try(t, "systemctl", "start", "fermata-policy@nowhere.service"); status == 0 {
		t.Errorf("it did not fail: %s", out)
	}
	labtest.Run(t, "systemctl", "reset-failed", "fermata-policy@nowhere.service")
	eventually(t, "it is told", func() bool { text, _ := os.ReadFile(told); return len(text) > 0 })
	if text, err := os.ReadFile(told); string(text) != "fermata-policy@nowhere.service\n" {
		t.Errorf("told of %q, %v", text, err)
	}
	for _, m := range sets(t) {
		must(t, "snapshot", "delete", m.ID)
	}
}
