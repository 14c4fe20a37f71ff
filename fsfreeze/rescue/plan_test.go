package rescue

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// host has ext4 at /srv (253:1, bind-mounted at /bind), XFS at /home (253:2), the root (8:1), and a tmpfs.
var host = []fsfreeze.Mount{
	{ID: 1, Dev: unix.Mkdev(8, 1), Point: "/", Root: "/", FSType: "ext4"},
	{ID: 2, Dev: unix.Mkdev(0, 20), Point: "/run", Root: "/", FSType: "tmpfs"},
	{ID: 3, Dev: unix.Mkdev(253, 1), Point: "/srv", Root: "/", FSType: "ext4"},
	{ID: 4, Dev: unix.Mkdev(253, 1), Point: "/bind", Root: "/data", FSType: "ext4"},
	{ID: 5, Dev: unix.Mkdev(253, 2), Point: "/home", Root: "/", FSType: "xfs"},
}

func suspendedDevice(minor uint32) Device {
	return Device{unix.Mkdev(253, minor), "vg-v" + string(rune('0'+minor))}
}

func set(name string, released []string, finished bool, devs ...uint32) Transaction {
	t := Transaction{Set: name, Released: released, Finished: finished}
	for _, d := range devs {
		t.Held.Devices = append(t.Held.Devices, unix.Mkdev(253, d))
		t.Held.Filesystems = append(t.Held.Filesystems, HeldFilesystem{Point: map[uint32]string{1: "/srv", 2: "/home", 9: "/gone"}[d], Dev: unix.Mkdev(253, d)})
	}
	return t
}

func TestDecide(t *testing.T) {
	both := []Device{suspendedDevice(1), suspendedDevice(2)}
	for _, tt := range []struct {
		name        string
		state       State
		request     Request
		targets     []string // KIND NAME SET
		left, gone  []string
		notMounted  bool
		mountsOf    string
		mountsCount int
	}{
		{name: "nothing in flight: nothing is ours", state: State{Suspended: both}, left: []string{"vg-v1", "vg-v2"}},
		{name: "ours, and only ours", state: State{Transactions: []Transaction{set("s", nil, false, 1)}, Suspended: both},
			targets: []string{"device vg-v1 s", "filesystem /srv s"}, left: []string{"vg-v2"}, mountsOf: "/srv", mountsCount: 2},
		{name: "ours, no device suspended", state: State{Transactions: []Transaction{set("s", nil, false, 1, 2)}},
			targets: []string{"filesystem /srv s", "filesystem /home s"}},
		{name: "the guard has released everything", state: State{Transactions: []Transaction{set("s", []string{"/srv"}, true, 1)}, Suspended: both},
			left: []string{"vg-v1", "vg-v2"}},
		{name: "the guard has released a part", state: State{Transactions: []Transaction{set("s", []string{"/srv", "device 253:1"}, false, 1, 2)}, Suspended: both},
			targets: []string{"device vg-v2 s", "filesystem /home s"}, left: []string{"vg-v1"}},
		{name: "two transactions name the same", state: State{Transactions: []Transaction{set("s", nil, false, 1), set("r", nil, false, 1, 2)}},
			targets: []string{"filesystem /srv s", "filesystem /home r"}},
		{name: "unmounted while frozen", state: State{Transactions: []Transaction{set("s", nil, false, 1, 9)}},
			targets: []string{"filesystem /srv s"}, gone: []string{"/gone"}},
		{name: "everything", state: State{Transactions: []Transaction{set("s", nil, false, 1)}, Suspended: both}, request: Request{All: true},
			targets: []string{"device vg-v1 s", "filesystem /srv s", "device vg-v2 ", "filesystem / ", "filesystem /home "}},
		{name: "everything, the journal lost", state: State{Suspended: both}, request: Request{All: true},
			targets: []string{"device vg-v1 ", "device vg-v2 ", "filesystem / ", "filesystem /srv ", "filesystem /home "}},
		{name: "named, by a bind mount, with what is suspended below", request: Request{Points: []string{"/bind"}},
			state: State{Transactions: []Transaction{set("s", nil, false, 1, 2)}, Suspended: []Device{suspendedDevice(2), suspendedDevice(3)},
				Below: map[uint64][]uint64{unix.Mkdev(253, 1): {unix.Mkdev(253, 1), unix.Mkdev(253, 3)}}},
			targets: []string{"device vg-v3 ", "filesystem /srv s"}, left: []string{"vg-v2"}},
		{name: "named twice", request: Request{Points: []string{"/srv", "/bind"}}, targets: []string{"filesystem /srv "}},
		{name: "one of the named is no mount point", request: Request{Points: []string{"/srv/x", "/home"}},
			targets: []string{"filesystem /home "}, notMounted: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.state.Mounts = host
			p, err := Decide(tt.state, tt.request)
			if errors.Is(err, ErrNotMounted) != tt.notMounted || err != nil && !tt.notMounted {
				t.Errorf("error %v", err)
			}
			var targets, left, gone []string
			for _, x := range p.Targets {
				targets = append(targets, string(x.Kind)+" "+x.Name+" "+x.Set)
				if x.Kind == KindFilesystem && x.Name == tt.mountsOf && len(x.Mounts) != tt.mountsCount {
					t.Errorf("%s can be opened by %d mounts, want %d", x.Name, len(x.Mounts), tt.mountsCount)
				}
			}
			for _, d := range p.Left {
				left = append(left, d.Name)
			}
			for _, g := range p.Gone {
				gone = append(gone, g.Name)
			}
			if d := cmp.Diff([][]string{tt.targets, tt.left, tt.gone}, [][]string{targets, left, gone}); d != "" {
				t.Errorf("targets, left, gone (-want +got):\n%s", d)
			}
		})
	}
}

func TestActReportsWhatTheKernelSays(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	answers := map[uint64]error{1: nil, 2: unix.EINVAL, 3: unix.EIO}
	p := Plan{Gone: []Target{{Kind: KindFilesystem, Name: "/gone", Set: "s"}}}
	for dev := range uint64(4) {
		p.Targets = append(p.Targets, Target{Kind: KindDevice, Name: "d", Dev: dev + 1})
	}
	begin := time.Now()
	out := Act(p, func(dev uint64) error {
		if dev == 4 {
			<-release
		}
		return answers[dev]
	}, 100*time.Millisecond)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it waited %v for a device that does not answer", took)
	}
	want := []Result{Released, Free, Failed, Stuck, Gone}
	for i, o := range out {
		if o.Result != want[i] || o.OK() != (i < 2) || (o.Error == "") != (i < 2) {
			t.Errorf("target %d: got %+v, want %s", i, o, want[i])
		}
	}
	if len(out) != len(want) {
		t.Errorf("%d outcomes", len(out))
	}
}
