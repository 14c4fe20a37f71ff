//go:build lab

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// The btrfs plug-in: chosen before what is built in, unless another is named; captured in a set of others at an instant of
// its own, of which a set can have one.
func TestBtrfsPlugin(t *testing.T) {
	vols := thinVolumes(t, 1)
	b, c := labtest.Thin(t, "vg", "b", "300m", "btrfs"), labtest.Thin(t, "vg", "c", "300m", "btrfs")
	thin := vols[0].Point
	script := "#!/bin/sh\necho armed >" + thin + "/armed; echo armed >" + b.Point + "/armed\n"
	if err := os.WriteFile("/usr/local/bin/arming", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove("/usr/local/bin/arming") })
	configure(t, map[string]string{
		"providers.d/btrfs.yaml": "type: plugin\ncommand: [" + shipped + "btrfs]\n",
		"writers.d/w.yaml":       "commands: {freeze: [/usr/local/bin/arming], thaw: [/bin/true]}\n",
		"policies.d/p.yaml":      "volumes: [" + thin + ", " + b.Point + "]\nwriters: [w]\n",
	})
	unchanged := labtest.Unchanged(t)

	var names []string
	var providers []api.Provider
	decode(t, must(t, "provider", "list", "--json"), &providers)
	for _, p := range providers {
		names = append(names, p.Name+" "+p.Kind)
	}
	if got := strings.Join(names, ", "); !strings.HasPrefix(got, "btrfs software, thin built-in, thick built-in") {
		t.Errorf("order of choice: %s", got)
	}
	plan := func(args ...string) (m api.Manifest) {
		t.Helper()
		decode(t, must(t, append([]string{"snapshot", "create", "--dry-run", "--json"}, args...)...), &m)
		return m
	}
	m := plan(thin, b.Point)
	if m.Volumes[0].Provider != "thin" || m.Volumes[1].Provider != "btrfs" || m.Volumes[1].Frozen || m.Volumes[1].Refused["thin"] != "btrfs (software) comes first" {
		t.Errorf("got %+v", m.Volumes)
	}
	if out := must(t, "snapshot", "create", "--dry-run", thin, b.Point); !strings.Contains(out, "not thin: btrfs (software) comes first") {
		t.Errorf("got %s", out)
	}
	m = plan(thin, b.Point, "--provider", b.Point+"=thin")
	if m.Volumes[1].Provider != "thin" || !m.Volumes[1].Frozen || m.Volumes[1].Refused["btrfs"] != "another provider was asked for" {
		t.Errorf("got %+v", m.Volumes)
	}
	if a := fermata(t, "snapshot", "create", thin, b.Point, "--provider", thin+"=btrfs"); a.status != 2 || !strings.Contains(a.stderr, "btrfs: plug-in btrfs") && !strings.Contains(a.stderr, "not a mounted btrfs") {
		t.Errorf("got %+v", a)
	}

	// Two cannot be one instant; of one, the message says how it is done.
	a := fermata(t, "snapshot", "create", thin, b.Point, c.Point)
	if a.status != 2 || !strings.Contains(a.stderr, "cannot take "+b.Point+" and "+c.Point+" in one set: ") || !strings.Contains(a.stderr, "--provider "+c.Point+"=NAME") {
		t.Errorf("got %+v", a)
	}
	unchanged()

	write(t, filepath.Join(b.Point, "f"), "1")
	m = create(t, "--policy", "p")
	if m.Consistency != api.Application || len(m.Reasons) != 0 || m.Volumes[1].Provider != "btrfs" || m.Volumes[1].Frozen || !m.Volumes[0].Frozen {
		t.Errorf("got %+v", m)
	}
	write(t, filepath.Join(b.Point, "f"), "2")
	must(t, "snapshot", "mount", m.ID)
	for _, point := range []string{thin, b.Point} {
		wantFile(t, filepath.Join(mounted(t, m.ID, point), "armed"), "armed\n")
	}
	wantFile(t, filepath.Join(mounted(t, m.ID, b.Point), "f"), "1")
	if err := os.WriteFile(filepath.Join(mounted(t, m.ID, b.Point), "f"), nil, 0o600); err == nil {
		t.Error("the snapshot can be written to")
	}
	must(t, "snapshot", "umount", m.ID)
	must(t, "snapshot", "delete", m.ID)

	// What the subvolume's snapshot does not have is told at once, and kept.
	labtest.Run(t, "btrfs", "subvolume", "create", b.Point+"/nested")
	a = fermata(t, "snapshot", "create", "--quiet", b.Point)
	if a.status != 0 || !strings.Contains(a.stderr, "the snapshot of "+b.Point+" does not have nested") {
		t.Errorf("got %+v", a)
	}
	if out := must(t, "snapshot", "show", strings.TrimSpace(a.stdout)); !strings.Contains(out, "without nested") {
		t.Errorf("got %s", out)
	}
	must(t, "snapshot", "delete", strings.TrimSpace(a.stdout))
	labtest.Run(t, "btrfs", "subvolume", "delete", b.Point+"/nested")

	m = create(t, b.Point, c.Point, "--provider", c.Point+"=thin")
	if m.Volumes[0].Provider != "btrfs" || m.Volumes[1].Provider != "thin" || m.Consistency != api.Filesystem {
		t.Errorf("got %+v", m)
	}
	must(t, "snapshot", "mount", m.ID)
	wantFile(t, filepath.Join(mounted(t, m.ID, b.Point), "f"), "2")
	must(t, "snapshot", "delete", m.ID)
	unchanged()
	for _, v := range []labtest.Volume{b, c} {
		if _, err := os.Stat(filepath.Join(v.Point, ".fermata")); err == nil {
			t.Errorf("%s/.fermata is left", v.Point)
		}
	}
}
