package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The units are what every systemd from the oldest to the newest understands, without a word; a suite that the mirror has not is no
// reason to say nothing.
func TestGuestUnits(t *testing.T) {
	var out strings.Builder
	if err := verifyUnits(t.Context(), unitReleases, &out); err != nil {
		t.Fatal(err)
	}
	for i, version := range []string{"bullseye: systemd 247 ", "bookworm: systemd 252 ", "trixie: systemd 257 "} {
		if lines := strings.Split(out.String(), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[i], version) {
			t.Errorf("it says\n%s", &out)
		}
	}
	err := verifyUnits(t.Context(), []string{"nosuch"}, &out)
	if err == nil || !strings.Contains(err.Error(), "cannot fetch systemd of Debian's nosuch; does the mirror that this host's apt uses have that suite?") {
		t.Errorf("a suite that there is not: %v", err)
	}
}

func TestUnitsOf(t *testing.T) {
	files := []installed{{"a", "/usr/lib/systemd/system/b.timer", 0o644}, {"a", "/usr/bin/b", 0o755}, {"a", "/usr/lib/systemd/system/a@.service", 0o644}}
	want := []string{"/usr/lib/systemd/system/a@db.service", "/usr/lib/systemd/system/b.timer"}
	if d := cmp.Diff(want, unitsOf(files)); d != "" {
		t.Error(d)
	}
}
