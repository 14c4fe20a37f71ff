package provider

import (
	"errors"
	"os"
	"path"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
)

func TestCopyable(t *testing.T) {
	for _, test := range []struct {
		types []string
		want  string // part of the error; empty: none
	}{
		{[]string{"linear"}, ""},
		{[]string{"linear", "striped", "unstriped"}, ""},
		{[]string{"multipath"}, "take a volume on it"},
		{nil, "no table"},
		{[]string{"linear", "crypt"}, "holds a key"},
		{[]string{"integrity"}, "a key"},
		{[]string{"snapshot-origin"}, "somebody else"},
		{[]string{"raid"}, "target raid keeps a state"},
	} {
		if err := copyable(test.types); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v: %v, want %q", test.types, err, test.want)
		}
	}
}

func TestDMSnapshotName(t *testing.T) {
	const id = "20261120T000000_0001"
	long := strings.Repeat("x", 127)
	for _, test := range []struct{ device, want string }{
		{"data", "data." + id},
		{`my\x20disk/1`, "my_x20disk_1.3." + id},
		{"größe", "gr__e.3." + id},
	} {
		if got := dmSnapshotName(test.device, id, 3); got != test.want {
			t.Errorf("%s: %s, want %s", test.device, got, test.want)
		}
	}
	a, b := dmSnapshotName(long, id, 0), dmSnapshotName(long, id, 1)
	if a == b || len(ownName+a+cowEnd) > maxDMName || !strings.HasSuffix(a, id) {
		t.Errorf("%s, %s", a, b)
	}
}

// The udev rule knows our snapshots by their names.
func TestDMSnapshotNameRule(t *testing.T) {
	b, err := os.ReadFile("../../systemd/12-fermata.rules")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`ENV\{DM_NAME\}!="([^"]+)"`).FindSubmatch(b)
	if m == nil {
		t.Fatal("the rule asks for no names")
	}
	for _, device := range []string{"data", `my\x20disk/1`, "größe", strings.Repeat("x", 127)} {
		name := ownName + dmSnapshotName(device, "20261120T000000_0af1", 3)
		for name, want := range map[string]bool{name: true, name + cowEnd: true, device: false} {
			if got, err := path.Match(string(m[1]), strings.ReplaceAll(name, "/", "_")); got != want || err != nil {
				t.Errorf("%s: %v, %v, want %v", name, got, err, want)
			}
		}
	}
}

// A record gives back everything of a snapshot that the next daemon must know.
func TestRecord(t *testing.T) {
	r := record{
		Version: recordVersion, Name: "data.20261120T000000_0001", Device: "253:3", Set: Set{ID: "20261120T000000_0001", Policy: "p", Members: 2}, Origin: "data",
		MountPoint: "/srv/a b", FSType: "btrfs", Options: "subvolid=256", Size: 1 << 30, COW: 1 << 20, Consistency: "crash", Created: 1,
	}
	p := NewDM(nil, DMOptions{Storage: t.TempDir()})
	if err := p.write(r); err != nil {
		t.Fatal(err)
	}
	got, err := p.record(r.Name)
	want := Snapshot{
		Provider: "dm", Set: r.Set, Name: r.Name, Origin: "data", MountPoint: "/srv/a b", FSType: "btrfs", Options: "subvolid=256",
		Consistency: "crash", Created: 1, Size: 1 << 30, Volatile: true,
	}
	if err != nil || got != r || !reflect.DeepEqual(got.snapshot(), want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAreaSize(t *testing.T) {
	const m = 1 << 20
	for _, test := range []struct{ want, size, chunk, bytes uint64 }{
		{20 * m, 100 * m, 4096, 20 * m},
		{20*m + 1, 100 * m, 4096, 20*m + 4096},
		{0, 100 * m, 4096, m},
		{500 * m, 100 * m, 4096, 100 * m},            // a full copy
		{500 * m, 100*m + 512, 65536, 100*m + 65536}, // and its last, broken chunk
		{1, 512, 4096, m},
	} {
		if got := areaSize(test.want, test.size, test.chunk); got != test.bytes {
			t.Errorf("%d of %d by %d: %d, want %d", test.want, test.size, test.chunk, got, test.bytes)
		}
	}
}

func TestOriginOf(t *testing.T) {
	for uuid, want := range map[string]dm.Dev{
		"FERMATA-real-253:7": dm.MkDev(253, 7), "FERMATA-snap-253:7-20261120T000000_0001": dm.MkDev(253, 7), "FERMATA-cow-253:7-x": dm.MkDev(253, 7),
		"FERMATA-real-": 0, "FERMATA-else-253:7": 0, "LVM-abc": 0, "": 0,
	} {
		if got, ok := originOf(uuid); got != want || ok != (want != 0) {
			t.Errorf("%s: %v, %v", uuid, got, ok)
		}
	}
}

func TestSlide(t *testing.T) {
	disks := []dm.Target{{Length: 100, Type: "linear", Params: "8:1 0"}, {Start: 100, Length: 50, Type: "linear", Params: "8:2 0"}}
	other := []dm.Target{{Length: 200, Type: "linear", Params: "8:3 0"}}
	real := dm.MkDev(253, 9)
	through := []dm.Target{{Length: 150, Type: "snapshot-origin", Params: "253:9"}}
	for _, test := range []struct {
		name string
		s    slide
		kept bool
	}{
		{"untouched", slide{live: disks}, false},
		{"armed", slide{live: disks, inactive: through, real: dm.Info{Dev: real}, original: disks}, true},
		{"slid", slide{live: through, real: dm.Info{Dev: real}, original: disks}, true},
		{"slid over something else", slide{live: through, real: dm.Info{Dev: real + 1}, original: disks}, false},
		{"disarmed", slide{live: disks, real: dm.Info{Dev: real}, original: disks}, false},
		{"armed over a former table", slide{live: other, inactive: through, real: dm.Info{Dev: real}, original: disks}, false},
		{"replaced", slide{live: other, real: dm.Info{Dev: real}, original: disks}, false},
		{"gone", slide{originGone: true, real: dm.Info{Dev: real}, original: disks}, false},
	} {
		if err := test.s.kept(); (err == nil) != test.kept || err != nil && !errors.Is(err, ErrChanged) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestParseRecord(t *testing.T) {
	good := `{"Version":1,"Name":"data.x","Device":"253:7","Set":{"ID":"x"},"Origin":"data","Armed":true}`
	r, err := parseRecord("data.x", []byte(good))
	if err != nil || r.origin() != dm.MkDev(253, 7) || r.uuid() != "FERMATA-snap-253:7-x" || !r.Armed {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{
		"", "{", good[:len(good)/2], "null", strings.Replace(good, "data.x", "other", 1), strings.Replace(good, "253:7", "", 1),
		strings.Replace(good, `"Version":1`, `"Version":2`, 1), strings.Replace(good, `"ID":"x"`, `"ID":""`, 1),
	} {
		if r, err := parseRecord("data.x", []byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, r)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"Version":1,"Name":"data.x","Device":"253:7","Set":{"ID":"x"},"Origin":"data","Armed":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRecord("data.x", b); err == nil && (r.Name != "data.x" || r.Set.ID == "" || r.origin().String() != r.Device) {
			t.Errorf("%q is %+v", b, r)
		}
	})
}
