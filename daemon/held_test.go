package daemon

import (
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
)

// What a provider captures stands still, or the provider has said that it does not.
func TestHeld(t *testing.T) {
	one, two := providertest.NewFake("one", nil), providertest.NewFake("two", nil)
	dev := func(minor uint32) dm.Dev { return dm.MkDev(253, minor) }
	raw := func(minor uint32, p provider.Provider) member {
		return member{path: "/dev/raw", vol: provider.Volume{Dev: dev(minor)}, provider: p, unfrozen: "no filesystem of it is mounted"}
	}
	frozen, unheld, inside := raw(1, one), raw(1, one), raw(1, nil)
	frozen.freeze, frozen.unfrozen = true, ""
	unheld.claim.Unheld = true
	inside.inside = "/srv"
	for _, tt := range []struct {
		name      string
		members   []member
		suspended []dm.Dev
		want      string // part of the error; empty: none
	}{
		{"frozen", []member{frozen}, nil, ""},
		{"suspended", []member{raw(1, one)}, []dm.Dev{dev(2), dev(1)}, ""},
		{"declared unheld", []member{unheld}, nil, ""},
		{"inside another", []member{inside}, nil, ""},
		{"another provider's", []member{raw(1, two)}, nil, ""},
		{"by nothing", []member{raw(1, one)}, nil, "cannot capture /dev/raw: no filesystem of it is mounted, and provider one neither suspends it nor says"},
		{"another one is suspended", []member{frozen, raw(2, one)}, []dm.Dev{dev(1)}, "--provider /dev/raw=NAME"},
	} {
		err := plan{members: tt.members}.held(one, tt.suspended)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}
