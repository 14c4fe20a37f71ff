package daemon

import (
	"errors"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
)

// storedFake keeps its snapshots on devices of the host.
type storedFake struct {
	*providertest.Fake
	below []dm.Dev
	err   error
}

func (f storedFake) Storage() ([]dm.Dev, error) { return f.below, f.err }

func TestApart(t *testing.T) {
	broken := errors.New("no mount table")
	vol := func(minor uint32, name string) provider.Volume {
		return provider.Volume{Dev: dm.MkDev(253, minor), Name: name}
	}
	plain := &providertest.Fake{Label: "plain"}
	stored := storedFake{Fake: &providertest.Fake{Label: "stored"}, below: []dm.Dev{dm.MkDev(8, 1), dm.MkDev(253, 1)}}
	for _, test := range []struct {
		name   string
		shares []share
		want   string // part of the error; empty: none
	}{
		{"nobody is stored", []share{{plain, []provider.Volume{vol(1, "a")}}}, ""},
		{"elsewhere", []share{{plain, []provider.Volume{vol(2, "b")}}, {stored, []provider.Volume{vol(3, "c")}}}, ""},
		{"on another provider's volume", []share{{plain, []provider.Volume{vol(2, "b"), vol(1, "a")}}, {stored, []provider.Volume{vol(3, "c")}}}, "of c on a"},
		{"on a volume of its own", []share{{stored, []provider.Volume{vol(3, "c"), vol(1, "a")}}}, "of c on a"},
		{"cannot tell", []share{{storedFake{Fake: plain, err: broken}, []provider.Volume{vol(3, "c")}}}, "no mount table"},
	} {
		err := apart(test.shares)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}
