package main

import (
	"maps"
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
