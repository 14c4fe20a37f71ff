//go:build lab

package system

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
	"github.com/fermata-project/fermata/systemd/journald"
)

// The journal can be searched for a set, a policy and a phase, and explains what it has.
func TestJournalEntries(t *testing.T) {
	thinVolumes(t, 1)
	configure(t, map[string]string{
		"policies.d/good.yaml": "volumes: [/srv/v1]\n",
		"policies.d/bad.yaml":  "volumes: [/srv/v1]\nwriters: [bad]\n",
		"writers.d/bad.yaml":   "session: [/usr/bin/fermata-writer, test, --fail-at, freeze]\n",
	})
	labtest.Run(t, "journalctl", "--update-catalog")
	m := create(t, "--policy", "good")
	if a := fermata(t, "snapshot", "create", "--policy", "bad"); a.status == 0 {
		t.Errorf("the set is made: %+v", a)
	}
	entries := func(matches ...string) []map[string]any {
		t.Helper()
		var out []map[string]any
		for line := range strings.Lines(labtest.Run(t, append([]string{"journalctl", "-o", "json", "-u", "fermatad"}, matches...)...)) {
			var e map[string]any
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			out = append(out, e)
		}
		return out
	}
	taken := entries("FERMATA_SET="+m.ID, "MESSAGE_ID="+journald.Messages["set taken"])
	if len(taken) != 1 || taken[0]["FERMATA_POLICY"] != "good" || taken[0]["PRIORITY"] != "6" || !strings.Contains(taken[0]["MESSAGE"].(string), `msg="set taken"`) {
		t.Errorf("of the set: %v", taken)
	}
	failed := entries("FERMATA_POLICY=bad", "FERMATA_PHASE=freeze-writers")
	if len(failed) != 1 || failed[0]["MESSAGE_ID"] != journald.Messages["no set was taken"] || failed[0]["PRIORITY"] != "3" || failed[0]["FERMATA_CLASS"] == nil {
		t.Errorf("of the one that failed: %v", failed)
	}
	explained := labtest.Run(t, "journalctl", "-x", "--no-pager", "-u", "fermatad", "FERMATA_POLICY=bad")
	for _, want := range []string{"Subject: A snapshot set was not taken", "of policy bad failed in phase freeze-writers"} {
		if !strings.Contains(explained, want) {
			t.Errorf("the catalogue does not say %q:\n%s", want, explained)
		}
	}
	must(t, "snapshot", "delete", m.ID)
}
