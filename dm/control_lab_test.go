//go:build lab

package dm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func open(t *testing.T) *Control {
	t.Helper()
	c, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// disk is the number of the i-th disk of the lab.
func disk(t *testing.T, i int) Dev {
	t.Helper()
	disks := strings.Fields(os.Getenv("LAB_DISKS"))
	if len(disks) <= i {
		t.Fatalf("the lab gave %d disks, the test needs %d", len(disks), i+1)
	}
	var st unix.Stat_t
	if err := unix.Stat(disks[i], &st); err != nil {
		t.Fatal(err)
	}
	return Dev(st.Rdev)
}

// create makes a device that lasts as long as the test.
func create(t *testing.T, c *Control, name string, table ...Target) Dev {
	t.Helper()
	info, err := c.Create(name, "FERMATA-TEST-"+name, CreateOpts{Table: table})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(ByDev(info.Dev), false); err != nil && !errors.Is(err, unix.ENXIO) {
			t.Error(err)
		}
	})
	return info.Dev
}

func linear(length uint64, dest Dev, offset uint64) Target {
	return Target{Length: length, Type: "linear", Params: LinearTable{dest, offset}.String()}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDeviceLife(t *testing.T) {
	c, d := open(t), disk(t, 0)
	major, minor, _, err := c.Version()
	do(t, err)
	t.Logf("interface %d.%d", major, minor)

	dev := create(t, c, "life", linear(4096, d, 2048))
	if !nodeIs(NodePath("life"), dev) {
		t.Error("no node in /dev/mapper")
	}
	for _, ref := range []Ref{ByName("life"), ByUUID("FERMATA-TEST-life"), ByDev(dev)} {
		info, err := c.Info(ref)
		if want := (Info{Name: "life", UUID: "FERMATA-TEST-life", Dev: dev, TargetCount: 1, LiveTable: true,
			OpenCount: info.OpenCount, EventNr: info.EventNr}); err != nil || info != want {
			t.Errorf("%s: %+v, %v; want %+v", ref, info, err, want)
		}
	}
	table, _, err := c.Table(ByName("life"))
	if want := []Target{linear(4096, d, 2048)}; err != nil || !reflect.DeepEqual(table, want) {
		t.Errorf("table %v, %v; want %v", table, err, want)
	}
	if deps, err := c.Deps(ByName("life")); err != nil || !reflect.DeepEqual(deps, []Dev{d}) {
		t.Errorf("deps %v, %v", deps, err)
	}
	// One that is being made has no table yet.
	if deps, err := c.Deps(ByDev(create(t, c, "unfinished"))); err != nil || len(deps) > 0 {
		t.Errorf("deps %v, %v", deps, err)
	}
	status, _, err := c.Status(ByName("life"), StatusNoFlush)
	if err != nil || len(status) != 1 || status[0].Type != "linear" {
		t.Fatalf("status %v, %v", status, err)
	}
	if _, err := ParseLinear(status[0].Params); err != nil {
		t.Error(err)
	}

	// An inactive table is seen, dropped, and swapped in by a resume.
	do(t, c.Load(ByDev(dev), []Target{linear(2048, d, 0)}, false))
	inactive, info, err := c.TableInactive(ByDev(dev))
	if err != nil || !info.InactiveTable || len(inactive) != 1 || inactive[0].Length != 2048 {
		t.Errorf("inactive %v %+v, %v", inactive, info, err)
	}
	do(t, c.Clear(ByDev(dev)))
	if inactive, info, err := c.TableInactive(ByDev(dev)); err != nil || info.InactiveTable || inactive != nil {
		t.Errorf("after clear: %v %+v, %v", inactive, info, err)
	}
	do(t, c.Load(ByDev(dev), []Target{linear(2048, d, 0), {2048, 8, "error", ""}}, true))
	do(t, c.Suspend(ByDev(dev), SkipLockFS))
	if info, _ := c.Info(ByDev(dev)); !info.Suspended {
		t.Error("not suspended")
	}
	do(t, c.Suspend(ByDev(dev), SkipLockFS|NoFlush))
	do(t, c.Resume(ByDev(dev), SkipLockFS))
	if info, _ := c.Info(ByDev(dev)); info.Suspended || info.InactiveTable || info.TargetCount != 2 || !info.ReadOnly {
		t.Errorf("after resume %+v", info)
	}

	do(t, c.Rename(ByDev(dev), "other"))
	if !nodeIs(NodePath("other"), dev) || nodeIs(NodePath("life"), dev) {
		t.Error("the node was not renamed")
	}
	do(t, c.Remove(ByName("other"), false))
	if _, err := os.Lstat(NodePath("other")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node is still there: %v", err)
	}
}

// A device whose resume the kernel refuses, because of the table that it would make live, is resumed with its own.
func TestReleaseWithABadTable(t *testing.T) {
	c, d := open(t), disk(t, 0)
	dev := create(t, c, "held", linear(2048, d, 0))
	release := c.PrepareRelease(dev)
	if err := release(); err != unix.EINVAL {
		t.Errorf("not suspended: %v", err)
	}
	beyond := linear(2048, d, 1<<40) // a load does not look at the disk's size
	do(t, c.Load(ByDev(dev), []Target{beyond}, false))
	do(t, c.Suspend(ByDev(dev), SkipLockFS))
	if err := c.PrepareResume(dev, SkipLockFS).Do(); !errors.Is(err, unix.EINVAL) {
		t.Fatalf("resume: %v: the kernel takes the table", err)
	}
	do(t, c.Load(ByDev(dev), []Target{beyond}, false))
	if err := release(); err != nil {
		t.Errorf("release: %v", err)
	}
	if info, err := c.Info(ByDev(dev)); err != nil || info.Suspended {
		t.Errorf("after the release: %+v, %v", info, err)
		do(t, c.Resume(ByDev(dev), SkipLockFS))
	}
	table, _, err := c.Table(ByDev(dev))
	if want := []Target{linear(2048, d, 0)}; err != nil || !reflect.DeepEqual(table, want) {
		t.Errorf("table %v, %v; want %v", table, err, want)
	}
}

func TestErrors(t *testing.T) {
	c, d := open(t), disk(t, 0)
	create(t, c, "taken", linear(2048, d, 0))
	bare, err := c.Create("bare", "", CreateOpts{})
	do(t, err)
	t.Cleanup(func() { c.Remove(ByName("bare"), false) })
	for _, x := range []struct {
		name string
		err  error
		want unix.Errno
	}{
		{"info of none", second(c.Info(ByName("none"))), unix.ENXIO},
		{"suspend none", c.Suspend(ByName("none"), SkipLockFS), unix.ENXIO},
		{"remove none", c.Remove(ByName("none"), false), unix.ENXIO},
		{"same name", second(c.Create("taken", "", CreateOpts{})), unix.EBUSY},
		{"same UUID", second(c.Create("free", "FERMATA-TEST-taken", CreateOpts{})), unix.EBUSY},
		{"no such target", c.Load(ByName("taken"), []Target{{0, 8, "nothing", ""}}, false), unix.EINVAL},
		{"no message", c.Message(ByName("taken"), 0, "hello"), unix.EINVAL},
		{"second UUID", c.SetUUID(ByName("taken"), "x"), unix.EINVAL},
		{"call", c.PrepareSuspend(MkDev(253, 999999), SkipLockFS).Do(), unix.ENXIO},
	} {
		var typed *Error
		if !errors.As(x.err, &typed) || !errors.Is(x.err, x.want) {
			t.Errorf("%s: %v, want %v", x.name, x.err, x.want)
		}
	}
	do(t, c.SetUUID(ByDev(bare.Dev), "FERMATA-TEST-bare"))
	if info, err := c.Info(ByUUID("FERMATA-TEST-bare")); err != nil || info.Dev != bare.Dev || info.LiveTable {
		t.Errorf("%+v, %v", info, err)
	}
	if err := c.PrepareSuspend(0, SkipLockFS).Do(); err == nil || !strings.Contains(err.Error(), "internal error") {
		t.Errorf("call without a device: %v", err)
	}
	// A failed table leaves no device.
	if _, err := c.Create("half", "", CreateOpts{Table: []Target{{0, 8, "linear", "0:0 0"}}}); err == nil {
		t.Error("a linear target over nothing was accepted")
	}
	if _, err := c.Info(ByName("half")); !errors.Is(err, unix.ENXIO) {
		t.Errorf("half a device: %v", err)
	}
}

func TestRemoveOpen(t *testing.T) {
	c := open(t)
	dev := create(t, c, "open", linear(2048, disk(t, 0), 0))
	f, err := os.Open(NodePath("open"))
	do(t, err)
	defer f.Close()
	if err := c.Remove(ByDev(dev), false); !errors.Is(err, unix.EBUSY) || err.Error() != "cannot remove "+dev.String()+": device or resource busy" {
		t.Errorf("%v", err)
	}
	do(t, c.Remove(ByDev(dev), true))
	if info, err := c.Info(ByDev(dev)); err != nil || !info.DeferredRemove || info.OpenCount < 1 {
		t.Errorf("%+v, %v", info, err)
	}
	do(t, f.Close())
	if !poll(5*time.Second, func() bool { _, err := c.Info(ByDev(dev)); return errors.Is(err, unix.ENXIO) }) {
		t.Error("still there after its last close")
	}
	do(t, RemoveNode("open", dev))
}

// Answers larger than the first buffer arrive whole.
func TestLargeAnswers(t *testing.T) {
	c, d := open(t), disk(t, 0)
	const n = 1500
	var table []Target
	for i := range uint64(n) {
		target := linear(8, d, 8*(n-i))
		target.Start = 8 * i
		table = append(table, target)
	}
	dev := create(t, c, "large", table...)
	got, info, err := c.Table(ByDev(dev))
	if err != nil || info.TargetCount != n || !reflect.DeepEqual(got, table) {
		t.Errorf("%d targets of %d, %v", len(got), n, err)
	}
	want := map[string]bool{}
	for i := range 150 {
		name := fmt.Sprintf("many-%03d-%s", i, strings.Repeat("x", 90))
		_, err := c.Create(name, "FERMATA-TEST-"+name, CreateOpts{})
		do(t, err)
		t.Cleanup(func() { c.Remove(ByName(name), false) })
		want[name] = true
	}
	list, err := c.List()
	do(t, err)
	for _, e := range list {
		if want[e.Name] && e.UUID != "FERMATA-TEST-"+e.Name {
			t.Errorf("%+v", e)
		}
		delete(want, e.Name)
	}
	if len(want) > 0 {
		t.Errorf("%d devices are not in a list of %d", len(want), len(list))
	}
	types, err := c.Targets()
	if err != nil || len(types) == 0 {
		t.Errorf("targets %v, %v", types, err)
	}
}

func TestEvents(t *testing.T) {
	c, d := open(t), disk(t, 0)
	dev := create(t, c, "eventful", linear(2048, d, 0))
	e, err := NewEvents()
	do(t, err)
	defer e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for e.Wait(ctx) == nil { // what the creation left over
	}
	if err := e.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	// The context that ended must not have left a wake-up behind.
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	go func() {
		time.Sleep(20 * time.Millisecond)
		c.Suspend(ByDev(dev), SkipLockFS)
		c.Load(ByDev(dev), []Target{linear(2048, d, 8)}, false)
		c.Resume(ByDev(dev), SkipLockFS)
	}()
	long, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	do(t, e.Wait(long))
}

// Where nobody has made the node of the control device, Open makes it.
func TestMakesControlNode(t *testing.T) {
	do(t, os.Rename(controlPath, controlPath+".away"))
	c, err := Open()
	do(t, errors.Join(os.Rename(controlPath+".away", controlPath), err))
	do(t, c.Close())
	left, _ := filepath.Glob("/dev/mapper/.fermata*")
	if len(left) > 0 {
		t.Errorf("left behind: %s", left)
	}
}

func second[T any](_ T, err error) error { return err }
