package main

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
)

func TestChooseProviders(t *testing.T) {
	for _, tt := range []struct {
		words []string
		all   string
		one   map[string]string
		fails bool
	}{
		{nil, "", nil, false},
		{[]string{"thin"}, "thin", nil, false},
		{[]string{"thin", "thin"}, "thin", nil, false},
		{[]string{"/srv=thin", "/a=b=thick", "dm"}, "dm", map[string]string{"/srv": "thin", "/a=b": "thick"}, false},
		{[]string{"thin", "thick"}, "", nil, true},
		{[]string{""}, "", nil, true},
		{[]string{"/srv="}, "", nil, true},
	} {
		var r api.Request
		err := chooseProviders(&r, tt.words)
		if (err != nil) != tt.fails || err == nil && (r.Provider != tt.all || !maps.Equal(r.Providers, tt.one)) {
			t.Errorf("%q: got %q, %v, %v", tt.words, r.Provider, r.Providers, err)
		}
	}
}

// A phase that tells its share of the work is drawn as a bar, any other as it is.
func TestBar(t *testing.T) {
	drawn := func(done int, phase string) string {
		return "[" + strings.Repeat("#", done) + strings.Repeat(".", 40-done) + "] " + phase
	}
	for phase, want := range map[string]string{
		"clone 0%": drawn(0, "clone 0%"), "clone 2%": drawn(0, "clone 2%"), "clone 43%": drawn(17, "clone 43%"),
		"clone 99%": drawn(39, "clone 99%"), "clone 100%": drawn(40, "clone 100%"),
		"clone 101%": "clone 101%", "clone -1%": "clone -1%", "clone x%": "clone x%", "clone 43": "clone 43",
		"thaw-writers": "thaw-writers", "%": "%", "": "", " ": " ",
	} {
		if got := bar(phase); got != want {
			t.Errorf("bar(%q) = %q, want %q", phase, got, want)
		}
	}
	var out bytes.Buffer
	a := &app{err: &out}
	if progress, finish := a.progressLine(); progress != nil {
		t.Error("a line is drawn where there is no terminal")
	} else if finish(); out.Len() > 0 {
		t.Errorf("got %q", out.String())
	}
	a.progress = true
	progress, finish := a.progressLine()
	progress("arm 50%")
	if finish(); out.String() != "arm 50%\n" {
		t.Errorf("got %q", out.String())
	}
}
