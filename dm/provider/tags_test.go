package provider

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// legalTag is what lvm(8) allows a tag to be.
var legalTag = regexp.MustCompile(`^[A-Za-z0-9_+.\-/=!:&#]+$`)

func TestTagsRoundTrip(t *testing.T) {
	set := Set{ID: "20261120T114653_7f3a", Policy: "db", Members: 2}
	v := Volume{Name: "vg/home", MountPoint: "/srv/a b\n#é%", FSType: "ext4"}
	tags := append(tagsOf(Host{"0123456789abcdef", "web 1"}, set, v), finalTags(Final{"application", 1700000000000000})...)
	for _, tag := range tags {
		if !legalTag.MatchString(tag) {
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

// Whatever tags a disk has: what is read of them does not depend on their order, and comes back when it is written again.
func FuzzTags(f *testing.F) {
	set := Set{ID: "20261120T114653_7f3a", Policy: "db", Members: 2}
	vol := Volume{Name: "vg/home", MountPoint: "/srv/a b\n#é%", FSType: "btrfs", Options: "subvol=/@home"}
	f.Add(strings.Join(append(tagsOf(Host{"0123456789abcdef", "web 1"}, set, vol), finalTags(Final{"application", 1700000000000000})...), "\n"))
	f.Add(strings.Join(tagsOf(Host{}, set, Volume{Name: "vg/v", MountPoint: strings.Repeat("/ ", 700)}), "\n"))
	f.Add("fermata.armed\nfermata.scratch\nfermata.set=x\nfermata.set.1=y\nfermata.members=-1\nfermata.created=99999999999999999999\nbackup")
	f.Add("fermata.\nfermata.=\nfermata.set\nfermata.set=#\nfermata.policy=#0\nfermata.mount=#2f#zz")
	f.Fuzz(func(t *testing.T, text string) {
		tags := strings.Split(text, "\n")
		s, ok := parseTags(tags)
		keys := map[string]bool{}
		for _, tag := range tags {
			key, _, _ := strings.Cut(tag, "=")
			keys[key] = true
		}
		if reversed := slices.Clone(tags); len(keys) == len(tags) { // of two with one key either may count
			slices.Reverse(reversed)
			if again, ok2 := parseTags(reversed); ok != ok2 || !reflect.DeepEqual(s, again) {
				t.Errorf("in another order %q is %+v, and was %+v", tags, again, s)
			}
		}
		if !ok {
			return
		}
		v := Volume{Name: s.Origin, MountPoint: s.MountPoint, FSType: s.FSType, Options: s.Options}
		written := append(tagsOf(Host{s.Machine, s.Host}, s.Set, v), finalTags(Final{s.Consistency, s.Created})...)
		for _, tag := range written {
			if !legalTag.MatchString(tag) {
				t.Errorf("LVM does not allow %q", tag)
			}
		}
		armed, scratch := s.Armed, s.Scratch
		s.Armed, s.Scratch = true, false
		if again, ok := parseTags(written); !ok || !reflect.DeepEqual(s, again) {
			t.Errorf("%q is %+v, and written again %+v", tags, s, again)
		}
		if slices.Contains(tags, tagArmed) != armed || slices.Contains(tags, tagScratch) != scratch {
			t.Errorf("%q: armed %v, scratch %v", tags, armed, scratch)
		}
	})
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
