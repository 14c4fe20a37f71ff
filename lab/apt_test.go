package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestChooseMirror(t *testing.T) {
	for _, test := range []struct {
		name, targets string
		want          mirror
	}{
		{"usual", "http://m/debian/ bookworm main\nhttp://m/debian/ bookworm-updates main\nhttp://s/debian-security/ bookworm-security main\n",
			mirror{archive: "http://m/debian/", security: "http://s/debian-security/"}},
		{"foreign ones first", "https://x/ nodistro main\nhttps://y bookworm stable\nhttps://z bookworm-pgdg main\nhttp://m/ stable main\n",
			mirror{archive: "http://m/"}},
		{"old name of security", "http://m/ bullseye main\nhttp://s/ buster/updates main\nhttp://t/ bullseye-security main\n",
			mirror{archive: "http://m/", security: "http://t/"}},
		{"not Debian", "http://u/ jammy main\n", mirror{}},
		{"nothing", "", mirror{}},
	} {
		got, err := chooseMirror(test.targets)
		if got != test.want || (err == nil) != (test.want.archive != "") {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
}

func TestSources(t *testing.T) {
	m := mirror{archive: "http://m/", security: "http://s/", keyring: "/k"}
	if got, want := m.sources("trixie"), "deb [signed-by=/k] http://m/ trixie main\ndeb [signed-by=/k] http://s/ trixie-security main\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := (mirror{archive: "http://m/"}).sources("sid"), "deb http://m/ sid main\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFetchSettings(t *testing.T) {
	dump := "APT \"\";\nAcquire \"\";\nAcquire::http::Proxy \"http://p:1\";\nAcquire::Check-Date \"false\";\nAcquire::cdrom::mount \"/m\";\nAcquire::https::Verify-Peer \"\";\n"
	want := []string{`Acquire::http::Proxy "http://p:1";`, `Acquire::Check-Date "false";`}
	if diff := cmp.Diff(want, fetchSettings(dump)); diff != "" {
		t.Error(diff)
	}
}

func TestParsePackages(t *testing.T) {
	if diff := cmp.Diff([]string{"a", "b", "c"}, parsePackages("a\n\n# no\n b # why\nc")); diff != "" {
		t.Error(diff)
	}
}

func TestMissingPackages(t *testing.T) {
	needs := []need{{"a", "pa"}, {"b", "pb"}, {"c", "pb"}}
	got := missingPackages(needs, func(program string) bool { return program == "a" })
	if diff := cmp.Diff([]string{"pb"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestLastLines(t *testing.T) {
	for _, test := range []struct {
		text string
		n    int
		want string
	}{{"a\nb\nc\n", 2, "b\nc"}, {"a", 5, "a"}, {"", 3, ""}} {
		if got := lastLines(test.text, test.n); got != test.want {
			t.Errorf("lastLines(%q, %d) = %q, want %q", test.text, test.n, got, test.want)
		}
	}
}
