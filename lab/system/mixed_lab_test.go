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

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func wantFile(t testing.TB, path, text string) {
	t.Helper()
	if b, err := os.ReadFile(path); err != nil || string(b) != text {
		t.Errorf("%s: got %q, %v, want %q", path, b, err, text)
	}
}

// at makes a directory and mounts there for the duration of the test.
func at(t testing.TB, point string, args ...string) {
	t.Helper()
	if err := os.MkdirAll(point, 0o755); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, append(append([]string{"mount"}, args...), point)...)
	t.Cleanup(func() {
		labtest.Run(t, "umount", point)
		os.Remove(point)
	})
}

// A btrfs on a thin volume, whose device the mount table does not tell: frozen, captured, and mounted beside its origin,
// whose id it has. Two mounts of its subvolumes are one volume.
func TestBtrfs(t *testing.T) {
	vols := thinVolumes(t, 1)
	b := labtest.Thin(t, "vg", "b", "300m", "btrfs")
	labtest.Run(t, "btrfs", "subvolume", "create", b.Point+"/@home")
	at(t, "/srv/home", "-o", "subvol=@home", b.Device())
	write(t, filepath.Join(b.Point, "f"), "1")
	write(t, "/srv/home/h", "home")

	m := create(t, vols[0].Point, b.Point, "/srv/home")
	if len(m.Volumes) != 2 || m.Consistency != api.Filesystem || !m.Volumes[1].Frozen || m.Volumes[1].Volume != "vg/b" {
		t.Errorf("got %+v", m)
	}
	write(t, filepath.Join(b.Point, "f"), "2")
	for _, writable := range []bool{false, true, false} {
		args := []string{"snapshot", "mount", m.ID}
		if writable {
			args = append(args, "--writable")
		}
		must(t, args...)
		path := mounted(t, m.ID, b.Point)
		wantFile(t, filepath.Join(path, "f"), "1")
		wantFile(t, filepath.Join(path, "@home/h"), "home")
		if err := os.WriteFile(filepath.Join(path, "f"), []byte("3"), 0o644); (err == nil) != writable {
			t.Errorf("writable %v: %v", writable, err)
		}
		wantFile(t, filepath.Join(b.Point, "f"), "2")
		must(t, "snapshot", "umount", m.ID)
	}
	// The subvolume that was asked for is what is mounted.
	h := create(t, "/srv/home")
	must(t, "snapshot", "mount", h.ID)
	wantFile(t, filepath.Join(mounted(t, h.ID, "/srv/home"), "h"), "home")
	must(t, "snapshot", "umount", h.ID)

	b.Writable(t)
	labtest.Run(t, "btrfs", "scrub", "start", "-B", b.Point)
	if out := labtest.Run(t, "btrfs", "filesystem", "show", b.Point); !strings.Contains(out, "Total devices 1") {
		t.Errorf("got %s", out)
	}
}

// Everything that can lie on something else: a filesystem in a file of another one, a volume group on such a file, bind
// mounts, a filesystem mounted read-only, mount points with spaces and newlines.
func TestStacked(t *testing.T) {
	vols := thinVolumes(t, 2)
	srv := vols[0].Point
	labtest.Run(t, "truncate", "-s", "32M", srv+"/disk.img")
	labtest.Run(t, "mkfs.ext4", "-q", srv+"/disk.img")
	at(t, "/srv/image", "-o", "loop", srv+"/disk.img")
	odd := "/srv/a b\nc\\d"
	at(t, odd, "--bind", vols[1].Point)
	write(t, "/srv/image/f", "in the image")
	write(t, filepath.Join(odd, "f"), "odd")

	m := create(t, "/srv/image", srv, odd, vols[1].Point)
	if len(m.Volumes) != 3 || m.Consistency != api.Filesystem || m.State != api.Complete {
		t.Fatalf("got %+v", m)
	}
	if v := m.Volumes[0]; !v.Frozen || v.Inside != srv || v.Name != "" {
		t.Errorf("the image: got %+v", v)
	}
	must(t, "snapshot", "mount", m.ID)
	wantFile(t, filepath.Join(mounted(t, m.ID, vols[1].Point), "f"), "odd")
	// The image was frozen before the filesystem that holds it: it is clean without a replay.
	at(t, "/srv/inner", "-o", "loop,ro,noload", filepath.Join(mounted(t, m.ID, srv), "disk.img"))
	wantFile(t, "/srv/inner/f", "in the image")
	out := labtest.Run(t, "dumpe2fs", "-h", filepath.Join(mounted(t, m.ID, srv), "disk.img"))
	if strings.Contains(out, "needs_recovery") {
		t.Errorf("the image needs a replay:\n%s", out)
	}
}

// A mount point whose name has a space and a newline is captured, listed and mounted under that name.
func TestOddMountPoint(t *testing.T) {
	vols := thinVolumes(t, 1)
	odd := "/srv/a b\nc\\d #1"
	labtest.Run(t, "umount", vols[0].Point)
	at(t, odd, vols[0].Device())
	t.Cleanup(func() { vols[0].Mount(t) })
	write(t, filepath.Join(odd, "f"), "odd")
	m := create(t, odd)
	must(t, "snapshot", "mount", m.ID)
	wantFile(t, filepath.Join(mounted(t, m.ID, odd), "f"), "odd")
	labtest.Run(t, "rm", "-r", "/var/lib/fermata")
	labtest.Run(t, "systemctl", "restart", "fermatad")
	wantFile(t, filepath.Join(mounted(t, m.ID, odd), "f"), "odd") // what the tags tell
	links, _ := filepath.Glob("/dev/fermata/" + m.ID + "/*")
	if len(links) != 1 || filepath.Base(links[0]) != `srv-a\x20b\x0ac\x5cd\x20\x231` {
		t.Errorf("links: %q", links)
	}
	must(t, "snapshot", "umount", m.ID)
	if _, err := os.Stat("/dev/fermata"); err == nil {
		t.Error("/dev/fermata is left")
	}
}

// A filesystem that is mounted read-only is captured, and stays as it was.
func TestReadOnlyFilesystem(t *testing.T) {
	vols := thinVolumes(t, 1)
	write(t, filepath.Join(vols[0].Point, "f"), "1")
	labtest.Run(t, "mount", "-o", "remount,ro", vols[0].Point)
	m := create(t, vols[0].Point)
	labtest.Run(t, "mount", "-o", "remount,rw", vols[0].Point) // fails on a frozen one
	vols[0].Writable(t)
	must(t, "snapshot", "mount", m.ID)
	wantFile(t, filepath.Join(mounted(t, m.ID, vols[0].Point), "f"), "1")
	must(t, "snapshot", "umount", m.ID)
}

// A volume without a filesystem: what was written to it is in the image, also what the kernel had not written out yet. It
// costs consistency, unless a writer speaks for it.
func TestRawVolume(t *testing.T) {
	vols := thinVolumes(t, 1)
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "64m", "--thin", "-n", "raw", "vg/pool")
	labtest.Run(t, "sysctl", "-q", "vm.dirty_writeback_centisecs=0")
	t.Cleanup(func() { labtest.Run(t, "sysctl", "-q", "vm.dirty_writeback_centisecs=500") })
	f, err := os.OpenFile("/dev/vg/raw", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	text := strings.Repeat("raw!", 1024)
	if _, err := f.WriteString(text); err != nil { // it stays in memory
		t.Fatal(err)
	}
	a := fermata(t, "snapshot", "create", "--json", "/dev/vg/raw", vols[0].Point)
	if a.status != 1 || !strings.Contains(a.stderr, "no filesystem of it is mounted") {
		t.Errorf("got %+v", a)
	}
	a = fermata(t, "snapshot", "create", "--consistency", "crash", "--json", "/dev/vg/raw", vols[0].Point)
	if a.status != 0 {
		t.Fatalf("got %+v\n%s", a, journal(t))
	}
	var m api.Manifest
	decode(t, a.stdout, &m)
	t.Cleanup(func() { fermata(t, "snapshot", "delete", m.ID) })
	if m.Consistency != api.Crash || len(m.Reasons) != 1 {
		t.Errorf("got %s, %v", m.Consistency, m.Reasons)
	}
	must(t, "snapshot", "mount", m.ID)
	link := "/dev/fermata/" + m.ID + "/@vg-raw"
	b, err := os.ReadFile(link)
	if err != nil || !strings.HasPrefix(string(b), text) {
		t.Errorf("the image begins with %.40q, %v", b, err)
	}
	labtest.Run(t, "systemctl", "kill", "--kill-who=main", "-s", "KILL", "fermatad") // the next one knows it
	must(t, "snapshot", "umount", m.ID)
	if _, err := os.Lstat(link); err == nil {
		t.Errorf("%s is still there", link)
	}
	configure(t, map[string]string{
		"writers.d/db.yaml":   "type: \"null\"\ncomponents: [{name: db, paths: [/dev/vg/raw]}]\n",
		"policies.d/vol.yaml": "volumes: [/dev/vg/raw, /srv/v1]\nwriters: [db]\n",
	})
	if m := create(t, "--policy", "vol"); m.Consistency != api.Application || len(m.Reasons) != 0 {
		t.Errorf("with a writer: got %s, %v", m.Consistency, m.Reasons)
	}
}

// Thin and thick volumes of one volume group, ext4, XFS and btrfs, in one set: one lock, one window.
func TestMixedSet(t *testing.T) {
	vols := thinVolumes(t, 1)
	vols = append(vols, labtest.Thin(t, "vg", "b", "300m", "btrfs"), thickVolume(t, "plain", "100m", "ext4"), thickVolume(t, "pb", "120m", "btrfs"))
	for _, v := range vols {
		write(t, filepath.Join(v.Point, "f"), "1")
	}
	m := create(t, points(vols)...)
	for i, v := range vols {
		write(t, filepath.Join(v.Point, "f"), "2")
		if got := m.Volumes[i].Provider; got != map[bool]string{true: "thin", false: "thick"}[i < 2] {
			t.Errorf("%s: provider %s", v.Point, got)
		}
	}
	// Usage and growth of the areas of the thick ones.
	var grown []api.Snapshot
	decode(t, must(t, "snapshot", "resize", m.ID, "+8M", "--json"), &grown)
	if len(grown) != 2 || grown[0].COW == nil || grown[0].COW.Used == 0 || grown[0].COW.Size < 8<<20 {
		t.Errorf("got %+v", grown)
	}
	if out := must(t, "snapshot", "show", m.ID); !strings.Contains(out, "copy-on-write used") {
		t.Errorf("got %s", out)
	}
	if a := fermata(t, "snapshot", "resize", m.ID, vols[0].Point, "+8M"); a.status != 2 {
		t.Errorf("a thin one: got %+v", a)
	}
	// The image of a btrfs by a provider that makes no copies: before Linux 6.7 the remedy is told, and nothing is left.
	a := fermata(t, "snapshot", "mount", m.ID)
	old := strings.HasPrefix(release(t), "5.") || strings.HasPrefix(release(t), "6.1.")
	if old {
		if a.status != 1 || !strings.Contains(a.stderr, "unmount /srv/pb") {
			t.Errorf("got %+v", a)
		}
		must(t, "snapshot", "delete", m.ID)
		vols = vols[:3]
		for _, v := range vols {
			write(t, filepath.Join(v.Point, "f"), "1")
		}
		m = create(t, points(vols)...)
		for _, v := range vols {
			write(t, filepath.Join(v.Point, "f"), "2")
		}
		a = fermata(t, "snapshot", "mount", m.ID)
	}
	if a.status != 0 {
		t.Fatalf("got %+v\n%s", a, journal(t))
	}
	for _, v := range vols {
		wantFile(t, filepath.Join(mounted(t, m.ID, v.Point), "f"), "1")
		wantFile(t, filepath.Join(v.Point, "f"), "2")
	}
	must(t, "snapshot", "delete", m.ID)
	if left := snapshotLVs(t); left != "" {
		t.Errorf("left behind: %s", left)
	}
	for _, v := range vols {
		v.Writable(t)
	}
}

// thickVolume makes a plain logical volume in vg with a filesystem and mounts it at /srv/LV.
func thickVolume(t testing.TB, lv, size, fstype string) labtest.Volume {
	t.Helper()
	v := labtest.Volume{VG: "vg", LV: lv, FSType: fstype, Point: "/srv/" + lv}
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", size, "-n", lv, "vg")
	labtest.Run(t, "mkfs."+fstype, "-q", v.Device())
	if err := os.MkdirAll(v.Point, 0o755); err != nil {
		t.Fatal(err)
	}
	v.Mount(t)
	t.Cleanup(func() {
		labtest.Run(t, "umount", v.Point)
		os.Remove(v.Point)
	})
	return v
}

// A pool that is filled to the brim between arming and firing: no set, nothing frozen, the origin as it was, and the message
// names cause and remedy.
func TestPoolFilledAfterArming(t *testing.T) {
	vols := thinVolumes(t, 1)
	write(t, filepath.Join(vols[0].Point, "f"), "1")
	labtest.Run(t, "sync")
	labtest.Run(t, "lvchange", "-qq", "--errorwhenfull", "y", "vg/pool")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "1600m", "--thin", "-n", "filler", "vg/pool")
	t.Cleanup(func() { labtest.Run(t, "lvremove", "-qq", "-f", "vg/filler") })
	labtest.Try(t, "dd", "if=/dev/zero", "of=/dev/vg/filler", "bs=4M", "count=320", "oflag=direct")
	script := "#!/bin/sh\ndd if=/dev/zero of=/dev/vg/filler bs=4M seek=320 oflag=direct\nexit 0\n"
	if err := os.WriteFile("/usr/local/bin/fill", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove("/usr/local/bin/fill") })
	configure(t, map[string]string{
		"providers.d/thin.yaml": "reserve: {data: 1%}\n",
		"policies.d/fill.yaml":  "volumes: [/srv/v1]\nwriters: [fill]\n",
		"writers.d/fill.yaml":   "commands: {freeze: [/usr/local/bin/fill], thaw: [/bin/true]}\ntimeouts: {freeze: 50s}\n",
	})
	a := fermata(t, "snapshot", "create", "--policy", "fill")
	if a.status != 1 || !strings.Contains(a.stderr, "the pool is not healthy: vg/pool is out_of_data_space (extend it: lvextend -L +SIZE vg/pool)") {
		t.Errorf("got %+v\n%s", a, journal(t))
	}
	if left := snapshotLVs(t); left != "" || len(sets(t)) != 0 {
		t.Errorf("left behind: %s, %d sets", left, len(sets(t)))
	}
	wantFile(t, filepath.Join(vols[0].Point, "f"), "1")
	labtest.Run(t, "lvremove", "-qq", "-f", "vg/filler")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "4m", "--thin", "-n", "filler", "vg/pool")
	vols[0].Writable(t)
	create(t, vols[0].Point)
}
