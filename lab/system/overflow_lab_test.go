//go:build lab

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// A copy-on-write area that overflows: before the set is finished, there is no set; afterwards the set says that it is
// damaged. In neither case does the volume notice. One that has grown in time does not overflow.
func TestOverflow(t *testing.T) {
	thinVolumes(t, 0)
	for provider, v := range map[string]labtest.Volume{"thick": thickVolume(t, "x", "96m", "ext4"), "dm": dmVolume(t, "plain", 96)} {
		t.Run(provider, func(t *testing.T) { overflow(t, provider, v) })
	}
}

func overflow(t *testing.T, provider string, v labtest.Volume) {
	// More than the area of 4 MiB holds, over what is there already.
	load := fmt.Sprintf("dd if=/dev/urandom of=%s/big bs=1M count=16 conv=fsync,notrunc status=none", v.Point)
	burden := func() { labtest.Run(t, "sh", "-c", load) }
	if err := os.WriteFile("/usr/local/bin/burden", []byte("#!/bin/sh\n"+load+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove("/usr/local/bin/burden") })
	configure(t, map[string]string{
		"policies.d/tiny.yaml":   "volumes: [" + v.Point + "]\ncow: 4M\n",
		"policies.d/burden.yaml": "volumes: [" + v.Point + "]\ncow: 4M\nwriters: [burden]\n",
		"writers.d/burden.yaml":  "commands: {freeze: [/bin/true], thaw: [/usr/local/bin/burden]}\ntimeouts: {thaw: 50s}\n",
	})
	burden()
	write(t, filepath.Join(v.Point, "f"), "1")
	labtest.Run(t, "sync")
	unchanged := labtest.Unchanged(t)

	t.Run("before the set is finished", func(t *testing.T) {
		a := fermata(t, "snapshot", "create", "--policy", "burden")
		if a.status != 1 || !regexp.MustCompile(`copy-on-write area of .* has overflowed.*\(give it more.*cow\)`).MatchString(a.stderr) {
			t.Errorf("got %+v\n%s", a, journal(t))
		}
		if n := len(sets(t)); n != 0 {
			t.Errorf("%d sets exist", n)
		}
		unchanged()
		v.Writable(t)
	})

	t.Run("afterwards", func(t *testing.T) {
		m := create(t, "--policy", "tiny")
		if m.State != api.Complete || m.Volumes[0].Provider != provider {
			t.Fatalf("got %+v", m)
		}
		burden()
		big := checksum(t, v.Point+"/big")
		var shown api.Manifest
		decode(t, must(t, "snapshot", "show", m.ID, "--json"), &shown)
		if shown.State != api.Damaged || shown.Volumes[0].Invalid == "" || len(shown.Reasons) == 0 {
			t.Errorf("got %+v", shown)
		}
		if out := must(t, "snapshot", "show", m.ID); !strings.Contains(out, "lost: ") || !strings.Contains(out, "damaged") {
			t.Errorf("got %s", out)
		}
		if out := must(t, "snapshot", "list"); !strings.Contains(out, "damaged") {
			t.Errorf("got %s", out)
		}
		for _, args := range [][]string{{"snapshot", "mount", m.ID}, {"snapshot", "resize", m.ID, "+8M"}} {
			a := fermata(t, args...)
			if a.status == 0 || !strings.Contains(a.stderr, "overflowed") || strings.Count(a.stderr, "\n") != 1 {
				t.Errorf("%v: got %+v", args, a)
			}
		}
		// Also a daemon that has seen nothing of it knows.
		labtest.Run(t, "systemctl", "restart", "fermatad")
		if list := sets(t); len(list) != 1 || list[0].State != api.Damaged {
			t.Errorf("got %+v", list)
		}
		must(t, "snapshot", "delete", m.ID)
		unchanged()
		labtest.Run(t, "umount", v.Point)
		labtest.Run(t, "e2fsck", "-fn", v.Device())
		v.Mount(t)
		if got := checksum(t, v.Point+"/big"); got != big {
			t.Errorf("the volume was harmed: got %s, want %s", got, big)
		}
		wantFile(t, filepath.Join(v.Point, "f"), "1")
	})

	t.Run("grown in time", func(t *testing.T) {
		unchanged := labtest.Unchanged(t)
		m := create(t, "--policy", "tiny")
		big := checksum(t, v.Point+"/big")
		must(t, "snapshot", "resize", m.ID, "+28M")
		burden()
		if list := sets(t); len(list) != 1 || list[0].State != api.Complete {
			t.Errorf("got %+v", list)
		}
		must(t, "snapshot", "mount", m.ID)
		if got := checksum(t, mounted(t, m.ID, v.Point)+"/big"); got != big {
			t.Errorf("got %s, want %s", got, big)
		}
		must(t, "snapshot", "delete", m.ID)
		unchanged()
	})
}
