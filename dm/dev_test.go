package dm

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDev(t *testing.T) {
	for _, c := range []struct {
		major, minor uint32
		dev          Dev
		text         string
	}{
		{253, 3, 0xfd03, "253:3"},
		{8, 0, 0x800, "8:0"},
		{253, 300, 0x10fd2c, "253:300"},
		{4095, 1<<20 - 1, 0xfffffff<<4 | 0xf, "4095:1048575"},
	} {
		d := MkDev(c.major, c.minor)
		if d != c.dev || d.Major() != c.major || d.Minor() != c.minor || d.String() != c.text {
			t.Errorf("%d:%d is %#x %s, want %#x %s", c.major, c.minor, uint64(d), d, uint64(c.dev), c.text)
		}
		if back, err := ParseDev(c.text); err != nil || back != d {
			t.Errorf("ParseDev(%s) = %s, %v", c.text, back, err)
		}
	}
	for _, s := range []string{"", ":", "1:", ":1", "a:1", "1:2:3", "-1:2", "1: 2", "4096:0", "0:1048576", "99999999999999999999:1"} {
		if d, err := ParseDev(s); err == nil {
			t.Errorf("ParseDev(%q) = %s", s, d)
		}
	}
}

func TestRefCheck(t *testing.T) {
	for _, r := range []Ref{ByName("vg-home"), ByUUID("LVM-x"), ByDev(MkDev(253, 0))} {
		if err := r.check(); err != nil {
			t.Errorf("%s: %v", r, err)
		}
	}
	for _, r := range []Ref{{}, {Name: "a", UUID: "b"}, {Name: "a", Dev: 1}, ByName(strings.Repeat("x", 128)),
		ByUUID(strings.Repeat("x", 129)), ByName("a\x00b")} {
		if err := r.check(); err == nil {
			t.Errorf("%+v: accepted", r)
		}
	}
}

func TestNewName(t *testing.T) {
	for _, good := range []string{"vg-home", "a", "vg--x-lv_tdata#+.:=@", strings.Repeat("x", 127)} {
		if err := checkNewName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "..", "control", "a/b", "a b", "ä", "a\x00", strings.Repeat("x", 128)} {
		if checkNewName(bad) == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestError(t *testing.T) {
	var err error = &Error{Op: "suspend", Device: "vg-home", Errno: unix.EBUSY}
	if err.Error() != "cannot suspend vg-home: device or resource busy" {
		t.Error(err)
	}
	if !errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ENXIO) {
		t.Error("the errno is lost")
	}
	if err := (&Error{Op: "list device-mapper devices", Errno: unix.EPERM}).Error(); err != "cannot list device-mapper devices: operation not permitted" {
		t.Error(err)
	}
}

func TestLVMNames(t *testing.T) {
	for _, c := range []struct{ name, vg, lv, layer string }{
		{"vg-home", "vg", "home", ""},
		{"fx--tst-da--ta", "fx-tst", "da-ta", ""},
		{"vg-pool-tpool", "vg", "pool", "tpool"},
		{"vg---x-y", "vg-", "x", "y"},
		{"vg-pool_tdata", "vg", "pool_tdata", ""},
	} {
		vg, lv, layer, ok := SplitLVMName(c.name)
		if !ok || vg != c.vg || lv != c.lv || layer != c.layer {
			t.Errorf("%s: %q %q %q %v", c.name, vg, lv, layer, ok)
		}
		if got := JoinLVMName(c.vg, c.lv, c.layer); got != c.name {
			t.Errorf("joined %s, want %s", got, c.name)
		}
	}
	for _, name := range []string{"", "-", "vg", "vg-", "-lv", "vg-lv-", "vg--lv", "a-b-c-d"} {
		if vg, lv, layer, ok := SplitLVMName(name); ok {
			t.Errorf("%q: %q %q %q", name, vg, lv, layer)
		}
	}
}

func FuzzLVMNames(f *testing.F) {
	f.Add("vg", "lv", "tpool")
	f.Add("a-", "b-c", "")
	f.Fuzz(func(t *testing.T, vg, lv, layer string) {
		// LVM allows no leading hyphen, and layers have none.
		if vg == "" || lv == "" || lv[0] == '-' || strings.Contains(layer, "-") {
			return
		}
		a, b, c, ok := SplitLVMName(JoinLVMName(vg, lv, layer))
		if !ok || a != vg || b != lv || c != layer {
			t.Errorf("%q %q %q: %q %q %q %v", vg, lv, layer, a, b, c, ok)
		}
	})
}

func TestMiscMinor(t *testing.T) {
	const misc = "130 watchdog\n236 device-mapper\n237 loop-control\n"
	if m, ok := miscMinor(strings.NewReader(misc), "device-mapper"); !ok || m != 236 {
		t.Errorf("%d, %v", m, ok)
	}
	for _, text := range []string{"", "130 watchdog\n", "x device-mapper\n", "99999999 device-mapper\n"} {
		if m, ok := miscMinor(strings.NewReader(text), "device-mapper"); ok {
			t.Errorf("%q: %d", text, m)
		}
	}
}
