package provider

import (
	"reflect"
	"regexp"
	"testing"
)

func TestTagsRoundTrip(t *testing.T) {
	allowed := regexp.MustCompile(`^[A-Za-z0-9_+.\-/=!:&#]+$`)
	set := Set{ID: "20261120T114653_7f3a", Policy: "db", Members: 2}
	v := Volume{Name: "vg/home", MountPoint: "/srv/a b\n#é%", FSType: "ext4"}
	tags := append(tagsOf(set, v), finalTags(Final{"application", 1700000000000000})...)
	for _, tag := range tags {
		if !allowed.MatchString(tag) {
			t.Errorf("LVM does not allow %q", tag)
		}
	}
	got, ok := parseTags(append(tags, "somebody.else", "fermata.later=x"))
	want := Snapshot{Set: set, Origin: "vg/home", Armed: true, MountPoint: v.MountPoint, FSType: "ext4", Consistency: "application", Created: 1700000000000000}
	if !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, ok := parseTags([]string{"backup", "fermata.armed"}); ok {
		t.Error("a volume without a set is not ours")
	}
}

func TestUntagGarbage(t *testing.T) {
	for in, want := range map[string]string{"#": "#", "#2": "#2", "#zz": "#zz", "a#20b": "a b", "#20": " "} {
		if got := untag(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
