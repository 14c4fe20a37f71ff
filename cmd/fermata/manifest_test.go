package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
)

// What a snapshot does not have is told with the volume and at once, on the terminal's terms; the reasons of providers that
// say the same stand in one line.
func TestVolumeNotes(t *testing.T) {
	var many []string
	for i := range 12 {
		many = append(many, fmt.Sprintf("n%d", i))
	}
	for _, tt := range []struct {
		name    string
		volume  api.Snapshot
		notes   string
		warning string
	}{
		{"all of it", api.Snapshot{MountPoint: "/srv"}, "", ""},
		{"without", api.Snapshot{MountPoint: "/srv", Omits: []string{"nested", "a/\x1bb"}}, "without nested|without a/\x1bb",
			"fermata: warning: the snapshot of /srv does not have nested, a/?b\n"},
		{"without many", api.Snapshot{Volume: "vg/b", Omits: many}, "without n0|without n1|without n2|without n3|without n4|without n5|without n6|without n7|without n8|without n9|without more; --json lists them",
			"fermata: warning: the snapshot of vg/b does not have n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, and more (fermata snapshot show --json)\n"},
		{"a plan", api.Snapshot{Refused: map[string]string{"dm": "asked for another", "btrfs": "no btrfs", "array": "asked for another"}},
			"not array, dm: asked for another|not btrfs: no btrfs", ""},
	} {
		var notes []string
		for _, row := range volumeRows([]api.Snapshot{tt.volume})[2:] {
			notes = append(notes, strings.TrimSpace(row[1]))
		}
		if got := strings.Join(notes, "|"); got != tt.notes {
			t.Errorf("%s: notes %q", tt.name, got)
		}
		var err strings.Builder
		(&app{err: &err}).warnOmits(&api.Manifest{Volumes: []api.Snapshot{tt.volume}})
		if err.String() != tt.warning {
			t.Errorf("%s: warning %q", tt.name, err.String())
		}
	}
}
