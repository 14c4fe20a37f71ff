package doctor

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
)

// sound is a host with nothing to complain of.
func sound() Host {
	return Host{
		Release: "6.1.176", Root: true, Admin: true, Udev: true, Dmeventd: true,
		DM: DeviceMapper{Version: "4.47.0",
			Targets: map[string]string{"thin": "1.22.0", "thin-pool": "1.22.0", "linear": "1.4.0"},
			Modules: map[string]string{"snapshot": "dm-snapshot", "snapshot-origin": "dm-snapshot"}},
		LVM:           LVM{Program: "/usr/sbin/lvm", Version: "2.03.16", ThinCheck: "/usr/sbin/thin_check"},
		Mount:         []Mount{{Point: "/srv", FSType: "ext4", Freezable: true, Provider: "thin"}},
		Pools:         []api.Pool{{Name: "vg/pool", Mode: "rw", Size: 100, Used: 42, MetadataSize: 100, MetadataUsed: 7}},
		Configuration: Configuration{Policies: []Policy{{"db", []string{"/srv"}}}},
		Bus:           Bus{Policy: "/usr/share/dbus-1/system.d/org.fermata.Fermata1.conf"},
		Service:       Service{Running: true, Activatable: true, Status: &api.Status{Version: "1.2.3", Guard: "ok"}},
	}
}

func TestSoundHost(t *testing.T) {
	for _, c := range Assess(sound()) {
		if c.State != OK || c.Remedy != "" || c.Detail == "" {
			t.Errorf("%+v", c)
		}
	}
}

func storage(mode string, used uint64) api.Pool {
	return api.Pool{Name: "/srv/store", Provider: "dm", Mode: mode, Size: 100, Used: used}
}

// TestFindings changes one thing of a sound host: one check changes.
func TestFindings(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Host)
		want   []string // state, name, detail's beginning, of every check that is not ok
	}{
		{"bad configuration", func(h *Host) { h.Configuration.Faults = []string{"a.yaml:1:1: unknown key"} },
			[]string{"failed configuration a.yaml:1:1: unknown key"}},
		{"no configuration", func(h *Host) { h.Configuration = Configuration{Error: "not root's"} }, []string{"failed configuration not root's"}},
		{"policy of what is not there", func(h *Host) { h.Configuration.Policies[0].Volumes = []string{"/srv", "/dev/vg/raw", "/home"} },
			[]string{"warning policy db /home: nothing that could be in a set"}},
		{"policy of what nobody takes", func(h *Host) {
			h.Mount = append(h.Mount, Mount{Point: "/boot", FSType: "ext4", Freezable: true, Why: "no provider takes it"})
			h.Configuration.Policies[0].Volumes = []string{"/boot"}
		}, []string{"warning policy db /boot: no provider"}},
		{"old kernel", func(h *Host) { h.Release = "4.19.0-amd64" }, []string{"warning kernel 4.19.0-amd64 is older"}},
		{"odd kernel", func(h *Host) { h.Release = "custom" }, []string{`warning kernel release "custom" is not`}},
		{"kernel that poisons", func(h *Host) { h.Release = "6.12.107+deb13" }, []string{"warning nested freeze on this kernel fsfreeze followed by lvcreate -s can leave"}},
		{"kernel that poisons, later series", func(h *Host) { h.Release = "6.18.3" }, []string{"warning nested freeze on this kernel"}},
		{"kernel that was mended", func(h *Host) { h.Release = "6.12.117" }, nil},
		{"no device-mapper", func(h *Host) { h.DM = DeviceMapper{Error: "cannot open /dev/mapper/control: no such device"} },
			[]string{"failed device-mapper cannot open"}},
		{"no thin", func(h *Host) { delete(h.DM.Targets, "thin") }, []string{"failed target thin this kernel does not have it"}},
		{"no snapshot", func(h *Host) { delete(h.DM.Modules, "snapshot") }, []string{"warning target snapshot this kernel"}},
		{"no lvm", func(h *Host) { h.LVM.Program = "" }, []string{"failed lvm lvm is not installed"}},
		{"no thin_check", func(h *Host) { h.LVM.ThinCheck = "" }, []string{"warning thin_check not installed"}},
		{"no pool", func(h *Host) { h.Pools = nil }, []string{"warning pools there is no active thin pool"}},
		{"pool full of data", func(h *Host) { h.Pools[0].Used = 80 }, []string{"warning pool vg/pool rw, data 80.0%, metadata 7.0%"}},
		{"pool full of metadata", func(h *Host) { h.Pools[0].MetadataUsed = 75 }, []string{"warning pool vg/pool rw, data 42.0%, metadata 75.0%"}},
		{"pool out of space", func(h *Host) { h.Pools[0].Mode = "out_of_data_space" }, []string{"failed pool vg/pool out_of_data_space"}},
		{"pool read-only", func(h *Host) { h.Pools[0].Mode = "ro" }, []string{"failed pool vg/pool ro,"}},
		{"pool damaged", func(h *Host) { h.Pools[0].NeedsCheck = true }, []string{"failed pool vg/pool rw, data 42.0%, metadata 7.0%, needs a check"}},
		{"pool failed", func(h *Host) { h.Pools[0] = api.Pool{Name: "vg/pool", Mode: "fail"} }, []string{"failed pool vg/pool fail, data 0.0%"}},
		{"storage volume", func(h *Host) { h.Pools = append(h.Pools, storage("rw", 40)) }, nil},
		{"storage volume alone", func(h *Host) { h.Pools = []api.Pool{storage("rw", 40)} }, []string{"warning pools there is no active thin pool"}},
		{"storage volume full", func(h *Host) { h.Pools = append(h.Pools, storage("rw", 80)) }, []string{"warning storage volume /srv/store rw, data 80.0%"}},
		{"storage volume read-only", func(h *Host) { h.Pools = append(h.Pools, storage("ro", 40)) }, []string{"failed storage volume /srv/store ro, data 40.0%: nothing"}},
		{"storage volume missing", func(h *Host) { h.Pools = append(h.Pools, storage("fail", 0)) }, []string{"failed storage volume /srv/store not there"}},
		{"unfreezable mount", func(h *Host) { h.Mount[0].FSType, h.Mount[0].Freezable = "vfat", false },
			[]string{"warning mount /srv vfat cannot be frozen"}},
		{"read-only mount", func(h *Host) { h.Mount[0].Freezable, h.Mount[0].ReadOnly = false, true }, nil},
		{"mount without provider", func(h *Host) { h.Mount[0].Provider = "" }, nil},
		{"no mount table", func(h *Host) { h.MountError = "cannot read the mount table" }, []string{"failed mounts cannot read"}},
		{"swap", func(h *Host) { h.SwapOnDM = []string{"/dev/dm-1"} }, []string{"warning swap on /dev/dm-1"}},
		{"no dmeventd", func(h *Host) { h.Dmeventd = false }, []string{"warning monitoring dmeventd does not run"}},
		{"no udev", func(h *Host) { h.Udev = false }, []string{"warning udev not running"}},
		{"in a container", func(h *Host) { h.Admin = false }, []string{"failed permissions root without"}},
		{"not root", func(h *Host) {
			h.Root, h.Admin, h.DM, h.Guard = false, false, DeviceMapper{Error: "permission denied"}, "permission denied"
		}, []string{"warning device-mapper not seen", "warning permissions not root", "warning guard not seen"}},
		{"no bus", func(h *Host) { h.Bus.Error = "cannot reach the system bus" }, []string{"failed bus cannot reach"}},
		{"no bus policy", func(h *Host) { h.Bus.Policy = "" }, []string{"failed bus policy org.fermata.Fermata1.conf is not installed"}},
		{"not installed", func(h *Host) { h.Service = Service{} }, []string{"failed fermatad does not run, and the bus cannot start it"}},
		{"not started yet", func(h *Host) {
			h.Service, h.Guard, h.GuardUnit = Service{Activatable: true}, "no such file", "/usr/lib/systemd/system/fermata-guard.socket"
		}, nil},
		{"mute", func(h *Host) { h.Service = Service{Running: true, Error: "timeout"} }, []string{"warning fermatad runs, but does not tell"}},
		{"with problems", func(h *Host) { h.Service.Status.Problems = []string{"a", "b"} }, []string{"warning fermatad runs, with problems: a; b"}},
		{"no guard", func(h *Host) { h.Guard = "cannot reach the guard" }, []string{"failed guard cannot reach"}},
	} {
		h := sound()
		test.change(&h)
		checks := Assess(h)
		var got []string
		failed := false
		for _, c := range checks {
			if c.State != OK {
				got = append(got, string(c.State)+" "+c.Name+" "+c.Detail)
			}
			failed = failed || c.State == Failure
		}
		fits := len(got) == len(test.want)
		for i := 0; fits && i < len(got); i++ {
			fits = strings.HasPrefix(got[i], test.want[i])
		}
		if !fits {
			t.Errorf("%s: found %q, want %q", test.name, got, test.want)
		}
		if Failed(checks) != failed {
			t.Errorf("%s: Failed = %v", test.name, !failed)
		}
	}
}

func TestNestedFreeze(t *testing.T) {
	for release, want := range map[string]State{
		"5.10.46": OK, "6.1.0-32-amd64": OK, "6.7.12": OK, "6.8.0": Warning, "6.12.101": Warning, "6.12.117": OK, "6.13.1": Warning,
	} {
		v, known := parseVersion(release)
		if c := nestedFreeze(v)[0]; !known || c.State != want {
			t.Errorf("%s: %+v, want %s", release, c, want)
		}
	}
}

func TestParse(t *testing.T) {
	if !hasSysAdmin("Name:\tx\nCapEff:\t000001ffffffffff\n") || hasSysAdmin("CapEff:\t00000000a80425fb\n") || hasSysAdmin("CapEff:\tx\n") || hasSysAdmin("") {
		t.Error("hasSysAdmin")
	}
	swaps := "Filename\tType\tSize\tUsed\tPriority\n/dev/dm-1 partition 1 0 -2\n/swap\\040file file 1 0 -3\n/dev/sda2 partition 1 0 -4\n"
	if diff := cmp.Diff([]string{"/dev/dm-1"}, swapOnDM(swaps)); diff != "" {
		t.Error(diff)
	}
	index := "kernel/drivers/md/dm-thin-pool.ko.xz: kernel/drivers/md/dm-bufio.ko.xz\nkernel/drivers/md/dm_snapshot.ko:\n"
	if !hasModule(index, "dm-thin-pool") || !hasModule(index, "dm-snapshot") || hasModule(index, "dm-bufio") {
		t.Error("hasModule")
	}
	p, ok := poolOf("vg-my--pool-tpool", "253:0 253:1 128 0 0", "5 120/1024 300/1600 - rw discard_passdown queue_if_no_space - 1024")
	want := api.Pool{Name: "vg/my-pool", Provider: "thin", Device: "vg-my--pool-tpool", Mode: "rw", Size: 1600 * 65536, Used: 300 * 65536,
		MetadataSize: 1024 * 4096, MetadataUsed: 120 * 4096}
	if diff := cmp.Diff(want, p); !ok || diff != "" {
		t.Error(ok, diff)
	}
	if _, ok := poolOf("x", "", "rubbish"); ok {
		t.Error("rubbish is a pool")
	}
}

func TestJSON(t *testing.T) {
	text, err := json.Marshal(Check{Name: "udev", State: Failure, Detail: "d", Remedy: "r"})
	if want := `{"name":"udev","state":"failed","detail":"d","remedy":"r"}`; err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
}
