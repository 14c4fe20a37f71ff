package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseInstallList(t *testing.T) {
	got, err := parseInstallList("# list\nsystemd/a.service /lib/systemd/system/a.service 0644\n\nsystemd/b /usr/bin/b 755 # run\n")
	want := []installed{
		{"systemd/a.service", "/usr/lib/systemd/system/a.service", 0o644},
		{"systemd/b", "/usr/bin/b", 0o755},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(installed{})); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for text, want := range map[string]string{
		"a /b":              "systemd/install.txt:1: want SOURCE DESTINATION MODE",
		"\na /b 9":          `systemd/install.txt:2: bad mode "9"`,
		"../a /b 644":       `systemd/install.txt:1: "../a" is not a file of the repository`,
		"a b 644":           `systemd/install.txt:1: "b" is not a clean absolute path`,
		"a /usr/../etc 644": `systemd/install.txt:1: "/usr/../etc" is not a clean absolute path`,
	} {
		if _, err := parseInstallList(text); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}
