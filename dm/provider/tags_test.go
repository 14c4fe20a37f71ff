package provider

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTagsRoundTrip(t *testing.T) {
	allowed := regexp.MustCompile(`^[A-Za-z0-9_+.\-/=!:&#]+$`)
	set := Set{ID: "20261120T114653_7f3a", Policy: "db", Members: 2}
	v := Volume{Name: "vg/home", MountPoint: "/srv/a b\n#é%", FSType: "ext4"}
	tags := append(tagsOf(Host{"0123456789abcdef", "web 1"}, set, v), finalTags(Final{"application", 1700000000000000})...)
	for _, tag := range tags {
		if !allowed.MatchString(tag) {
			t.Errorf("LVM does not allow %q", tag)
		}
	}
	got, ok := parseTags(append(tags, "somebody.else", "fermata.later=x"))
	want := Snapshot{Set: set, Origin: "vg/home", Armed: true, MountPoint: v.MountPoint, FSType: "ext4", Consistency: "application", Created: 1700000000000000,
		Machine: "0123456789abcdef", Host: "web 1"}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, ok := parseTags([]string{"backup", "fermata.armed"}); ok {
		t.Error("a volume without a set is not ours")
	}
}

// A mount point of any length that the kernel takes is told by the tags, whatever order LVM lists them in.
func TestLongTags(t *testing.T) {
	for _, point := range []string{strings.Repeat("/x", 100), "/" + strings.Repeat("ü", 200), strings.Repeat("/ ", 2047) + "/"} {
		tags := tagsOf(Host{}, Set{ID: "s"}, Volume{Name: "vg/v", MountPoint: point})
		for _, tag := range tags {
			if len(tag) > 1024 {
				t.Errorf("a tag of %d characters", len(tag))
			}
		}
		slices.Reverse(tags)
		if got, ok := parseTags(tags); !ok || got.MountPoint != point {
			t.Errorf("of %d bytes %d came back", len(point), len(got.MountPoint))
		}
	}
}

func TestUntagGarbage(t *testing.T) {
	for in, want := range map[string]string{"#": "#", "#2": "#2", "#zz": "#zz", "a#20b": "a b", "#20": " "} {
		if got := untag(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// A deletion makes this host the one that finishes it, after a crash too.
func TestMarkTags(t *testing.T) {
	here := Host{"0000000000000001", "here"}
	for _, tt := range []struct {
		name        string
		host        Host
		machines    []string // of the snapshots
		add, remove []string
	}{
		{"ours", here, []string{here.Machine, here.Machine}, []string{tagArmed}, nil},
		{"before there were such tags", here, []string{""}, []string{tagArmed}, nil},
		{"another host's", here, []string{"2", "2"}, []string{tagArmed, "fermata.machine=0000000000000001"}, []string{"fermata.machine=2"}},
		{"of several", here, []string{"2", "", "3", here.Machine}, []string{tagArmed, "fermata.machine=0000000000000001"}, []string{"fermata.machine=2", "fermata.machine=3"}},
		{"here nobody knows who we are", Host{}, []string{"2"}, []string{tagArmed}, []string{"fermata.machine=2"}},
	} {
		var snaps []Snapshot
		for _, m := range tt.machines {
			snaps = append(snaps, Snapshot{Machine: m})
		}
		if add, remove := markTags(tt.host, snaps); !slices.Equal(add, tt.add) || !slices.Equal(remove, tt.remove) {
			t.Errorf("%s: add %v, remove %v", tt.name, add, remove)
		}
	}
}

// What stands for a machine never changes, differs between machines, and is not its id.
func TestMachine(t *testing.T) {
	const id = "fe7a7afe7a7afe7a7afe7a7afe7a7a00"
	a, b := machine(id+"\n"), machine("fe7a7afe7a7afe7a7afe7a7afe7a7a01")
	if a != "f186dedf213cdc5d" || a == b || len(b) != 16 || strings.Contains(id, a) {
		t.Errorf("got %s and %s", a, b)
	}
	for _, none := range []string{"", "uninitialized\n", "fe7a", id + "00"} {
		if got := machine(none); got != "" {
			t.Errorf("of %q: %s", none, got)
		}
	}
}
