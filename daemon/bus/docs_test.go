package bus

import (
	"os"
	"strings"
	"testing"
)

// Everything in the table stands in the reference.
func TestEverythingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/dbus.md")
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string) {
		if !strings.Contains(string(text), "`"+name) {
			t.Errorf("docs/dbus.md does not speak of %s", name)
		}
	}
	l := &link{Server: New(nil, nil, nil)}
	for _, i := range []iface{l.manager(), l.set(), l.job()} {
		check(i.name)
		for _, m := range i.methods {
			check(m.name)
			if m.doc == "" {
				t.Errorf("%s.%s has no documentation", i.name, m.name)
			}
		}
		for _, s := range i.signals {
			check(s.name)
		}
		for _, p := range i.properties {
			check(p.name)
		}
	}
}
