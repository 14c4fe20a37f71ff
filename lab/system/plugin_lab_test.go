//go:build lab

package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// shipped is where the plug-ins are that nobody has switched on.
const shipped = "/usr/lib/fermata/providers/fermata-provider-"

// arrayVolume makes a volume of the array that the plug-in stands for, mounted at /srv/lun. The array is on a disk of its
// own.
func arrayVolume(t *testing.T) (store string) {
	disk, store, point := labtest.Disks(t)[1], "/srv/array", "/srv/lun"
	for _, dir := range []string{store, point} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.Remove(dir) })
	}
	labtest.Run(t, "mkfs.xfs", "-q", "-f", disk)
	labtest.Run(t, "mount", disk, store)
	t.Cleanup(func() { labtest.Run(t, "umount", store) })
	if err := os.Mkdir(filepath.Join(store, "volumes"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(store, "volumes", "lun")
	labtest.Run(t, "truncate", "-s", "64M", file)
	loop := strings.TrimSpace(labtest.Run(t, "losetup", "-f", "--show", file))
	t.Cleanup(func() { labtest.Run(t, "losetup", "-d", loop) })
	labtest.Run(t, "mkfs.ext4", "-q", loop)
	labtest.Run(t, "mount", loop, point)
	t.Cleanup(func() { labtest.Run(t, "umount", point) })
	return store
}

// A set of a thin volume and one of an array: mounted as one tree, and gone when it is deleted. A plug-in that dies, hangs
// or garbles in the window leaves nothing of the set, nothing frozen, and a message that names it and the phase; one that
// cannot be started or trusted is listed with its problem.
func TestPlugin(t *testing.T) {
	vols := thinVolumes(t, 1)
	store := arrayVolume(t)
	with := func(options ...string) {
		t.Helper()
		command, err := json.Marshal(append([]string{shipped + "array", "--store", store}, options...))
		if err != nil {
			t.Fatal(err)
		}
		configure(t, map[string]string{"providers.d/array.yaml": "type: plugin\ncommand: " + string(command) + "\ntimeouts: {window: 1s}\n"})
	}
	with()
	write(t, "/srv/lun/f", "one")
	write(t, vols[0].Point+"/f", "two")
	m := create(t, "/srv/lun", vols[0].Point)
	write(t, "/srv/lun/f", "later")
	if len(m.Volumes) != 2 || m.Consistency != api.Filesystem || m.Volumes[0].Provider != "array" || m.Volumes[1].Provider != "thin" {
		t.Errorf("got %+v", m)
	}
	must(t, "snapshot", "mount", m.ID)
	wantFile(t, mounted(t, m.ID, "/srv/lun")+"/f", "one")
	wantFile(t, mounted(t, m.ID, vols[0].Point)+"/f", "two")
	must(t, "snapshot", "umount", m.ID)
	must(t, "snapshot", "delete", m.ID)

	// A volume that nothing holds is captured if its plug-in says so, and the set tells it; otherwise not at all.
	raw := filepath.Join(store, "volumes", "raw")
	labtest.Run(t, "truncate", "-s", "8M", raw)
	loop := strings.TrimSpace(labtest.Run(t, "losetup", "-f", "--show", raw))
	a := fermata(t, "snapshot", "create", "--json", "--consistency", "crash", loop, vols[0].Point)
	if a.status != 0 {
		t.Fatalf("got %+v\n%s", a, journal(t))
	}
	decode(t, a.stdout, &m)
	if m.Consistency != api.Crash || len(m.Reasons) != 1 || !strings.Contains(m.Reasons[0], "provider array captures it without a hold") {
		t.Errorf("got %s, %q", m.Consistency, m.Reasons)
	}
	must(t, "snapshot", "delete", m.ID)
	command, err := json.Marshal([]string{"/bin/sh", "-c", shipped + "array --store " + store + " | sed -u -E 's/(unheld.:)true/\\1false/'"})
	if err != nil {
		t.Fatal(err)
	}
	configure(t, map[string]string{"providers.d/array.yaml": "type: plugin\ncommand: " + string(command) + "\n"})
	a = fermata(t, "snapshot", "create", "--consistency", "crash", loop, vols[0].Point)
	if a.status != 1 || !strings.Contains(a.stderr, "cannot capture "+loop+": no filesystem of it is mounted, and provider array neither suspends it") {
		t.Errorf("got %+v", a)
	}
	vols[0].Writable(t)
	if left, err := filepath.Glob(store + "/snapshots/*"); err != nil || len(left) > 0 || snapshotLVs(t) != "" {
		t.Errorf("left %v, %s", left, snapshotLVs(t))
	}
	labtest.Run(t, "losetup", "-d", loop)
	labtest.Run(t, "rm", raw)

	for _, tt := range []struct {
		option, message string
		status          int
	}{
		{"--die=commit", `plug-in array failed at commit: .*told to die at commit.*--provider VOLUME=NAME`, 1},
		{"--garble=precommit", `plug-in array failed at precommit: .*no JSON.*--provider VOLUME=NAME`, 1},
		{"--hang=commit", `plug-in array failed at commit: no answer within 1s.*timeouts, in its file in providers.d`, 4},
		{"--late=postcommit=3s", `plug-in array failed at postcommit: no answer within 1s`, 4},
		{"--fail=finalize", `plug-in array failed at finalize: told to fail`, 1},
	} {
		with(tt.option)
		a := fermata(t, "snapshot", "create", "/srv/lun", vols[0].Point)
		if a.status != tt.status || !regexp.MustCompile(tt.message).MatchString(a.stderr) {
			t.Errorf("%s: exit status %d, want %d; message %q, want %q", tt.option, a.status, tt.status, a.stderr, tt.message)
		}
		vols[0].Writable(t)
		wantFile(t, "/srv/lun/f", "later")
		wantFile(t, vols[0].Point+"/f", "two")
		write(t, "/srv/lun/after", tt.option)
		if left, err := filepath.Glob(store + "/snapshots/*"); err != nil || len(left) > 0 || snapshotLVs(t) != "" || len(sets(t)) > 0 {
			t.Errorf("%s: left %v, %s, %v", tt.option, left, snapshotLVs(t), sets(t))
		}
	}

	if err := os.WriteFile("/usr/local/bin/distrusted", []byte("#!/bin/sh\n"), 0o777); err != nil {
		t.Fatal(err)
	}
	defer os.Remove("/usr/local/bin/distrusted")
	if err := os.Chmod("/usr/local/bin/distrusted", 0o777); err != nil {
		t.Fatal(err)
	}
	configure(t, map[string]string{
		"providers.d/btrfs.yaml":      "type: plugin\ncommand: [" + shipped + "btrfs]\n",
		"providers.d/quits.yaml":      "type: plugin\ncommand: [/bin/false]\nkind: hardware\n",
		"providers.d/distrusted.yaml": "type: plugin\ncommand: [/usr/local/bin/distrusted]\n",
	})
	var providers []api.Provider
	decode(t, must(t, "provider", "list", "--json"), &providers)
	got := map[string]api.Provider{}
	for _, p := range providers {
		got[p.Name] = p
	}
	if len(providers) < 2 || providers[0].Name != "array" || providers[1].Name != "btrfs" { // the order of choice
		t.Errorf("got %+v", providers)
	}
	if p := got["btrfs"]; p.Kind != "software" || !p.Usable || p.Version != "1" || p.Problem != "" {
		t.Errorf("got %+v", providers)
	}
	if p := got["quits"]; p.Usable || !strings.Contains(p.Problem, "plug-in quits failed at hello") {
		t.Errorf("got %+v", p)
	}
	if p := got["distrusted"]; p.Usable || !strings.Contains(p.Problem, "/usr/local/bin/distrusted") {
		t.Errorf("got %+v", p)
	}
}
