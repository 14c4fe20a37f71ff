//go:build lab

package system

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// as runs the CLI as another user.
func as(t testing.TB, user string, args ...string) answer {
	t.Helper()
	var stdout, stderr strings.Builder
	c := exec.Command("runuser", append([]string{"-u", user, "--", "fermata"}, args...)...)
	c.Stdout, c.Stderr = &stdout, &stderr
	_ = c.Run()
	return answer{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// The rules of the manual let the administrators of a database run its policy, and nothing else; nobody else may do anything.
func TestDelegation(t *testing.T) {
	thinVolumes(t, 2)
	configure(t, map[string]string{
		"policies.d/db.yaml":   "volumes: [/srv/v1]\nretention: {keep_last: 1}\n",
		"policies.d/home.yaml": "volumes: [/srv/v2]\n",
	})
	manual, err := os.ReadFile("../../docs/dbus.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rules, found := strings.Cut(string(manual), "// /etc/polkit-1/rules.d/50-fermata-db.rules\n")
	rules, _, closed := strings.Cut(rules, "```")
	if !found || !closed {
		t.Fatal("the manual has no rules")
	}
	const file = "/etc/polkit-1/rules.d/50-fermata-db.rules"
	if err := os.WriteFile(file, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "groupadd", "dba")
	labtest.Run(t, "useradd", "--no-create-home", "--groups", "dba", "anna")
	labtest.Run(t, "useradd", "--no-create-home", "bert")
	labtest.Run(t, "systemctl", "restart", "polkit")
	t.Cleanup(func() {
		os.Remove(file)
		labtest.Run(t, "userdel", "anna")
		labtest.Run(t, "userdel", "bert")
		labtest.Run(t, "groupdel", "dba")
		labtest.Run(t, "systemctl", "restart", "polkit")
	})

	first := as(t, "anna", "policy", "run", "db")
	if first.status != 0 || len(sets(t)) != 1 || strings.TrimSpace(first.stdout) != sets(t)[0].ID {
		t.Fatalf("her policy: %+v\n%s", first, journal(t))
	}
	if a := as(t, "anna", "policy", "run", "db"); a.status != 0 || len(sets(t)) != 1 || strings.TrimSpace(a.stdout) != sets(t)[0].ID {
		t.Errorf("and what it drops: %+v", a)
	}
	kept := sets(t)[0].ID
	for _, test := range []struct{ user, command string }{
		{"anna", "policy run home"},
		{"anna", "snapshot create /srv/v1"},
		{"anna", "snapshot create --policy db --provider thick"},
		{"anna", "snapshot create --policy db --label keep=ever"},
		{"anna", "snapshot list"},
		{"anna", "snapshot show " + kept},
		{"anna", "snapshot delete " + kept},
		{"anna", "snapshot mount " + kept},
		{"anna", "snapshot pin " + kept},
		{"anna", "exec --policy db -- true"},
		{"anna", "quiesce --policy db -- true"},
		{"anna", "status"},
		{"bert", "policy run db"},
		{"bert", "snapshot list"},
	} {
		if a := as(t, test.user, strings.Fields(test.command)...); a.status != 1 || !strings.Contains(a.stderr, "may not") || a.stdout != "" {
			t.Errorf("%s: %s: %+v", test.user, test.command, a)
		}
	}
	if s := sets(t); len(s) != 1 || s[0].ID != kept || len(s[0].Mounts) > 0 || s[0].Pinned != nil {
		t.Errorf("what was refused was done: %+v", s)
	}
	must(t, "snapshot", "delete", kept)
}
