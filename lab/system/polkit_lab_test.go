//go:build lab

package system

import (
	"fmt"
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
	if err := os.WriteFile(file, []byte(rules+eachRule), 0o644); err != nil {
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
	mayEach(t, kept)
}

// actions are commands with what a user must be allowed for them to do them.
var actions = []struct{ action, command, says string }{
	{"use", "exec --policy db -- true", ""},
	{"mount", "snapshot mount SET", ""},
	{"mount", "snapshot umount SET", ""},
	{"pin", "snapshot pin SET", ""},
	{"pin", "snapshot unpin SET", ""},
	{"verify", "snapshot verify SET", ""},
	{"report", "snapshot report SET --outcome ok", ""},
	{"resize", "snapshot resize SET +4M", "none of its snapshots has a copy-on-write area of its own"}, // so it was looked for
	{"extend-pool", "pool extend vg/pool --by 4M", ""},
	{"quiesce", "quiesce --policy db -- true", ""},
	{"configure", "config reload", ""},
	{"delete", "snapshot delete SET", ""},
}

// Somebody who may do one thing, and read, does it, and whoever may do another one does not.
const eachRule = `polkit.addRule(function(action, subject) {
    if (subject.user.indexOf("may-") == 0 &&
        (action.id == "org.fermata.fermata1." + subject.user.slice(4) || action.id == "org.fermata.fermata1.read")) {
        return polkit.Result.YES;
    }
});
`

// mayEach does all actions, the last of which deletes the set.
func mayEach(t *testing.T, set string) {
	t.Helper()
	t.Cleanup(func() { labtest.Run(t, "sed", "-i", "/^may-/d", "/etc/passwd") })
	users := map[string]bool{}
	for i, test := range actions {
		if !users[test.action] {
			users[test.action] = true
			labtest.Run(t, "sh", "-c", fmt.Sprintf("echo may-%s:x:%d:65534::/:/bin/sh >>/etc/passwd", test.action, 3000+i))
		}
	}
	for i, test := range actions {
		command := strings.Fields(strings.ReplaceAll(test.command, "SET", set))
		if other := actions[(i+2)%len(actions)].action; other != test.action {
			if a := as(t, "may-"+other, command...); a.status != 1 || !strings.Contains(a.stderr, "may not") {
				t.Errorf("may-%s: %s: %+v", other, test.command, a)
			}
		}
		a := as(t, "may-"+test.action, command...)
		if (a.status == 0) != (test.says == "") || !strings.Contains(a.stderr, test.says) {
			t.Errorf("may-%s: %s: %+v", test.action, test.command, a)
		}
	}
	if s := sets(t); len(s) != 0 {
		t.Errorf("left are %+v", s)
	}
}
