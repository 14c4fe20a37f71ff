//go:build lab

package provider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/providertest"
	"github.com/fermata-project/fermata/lab/labtest"
)

func TestThick(t *testing.T) {
	providertest.Run(t, func(t *testing.T) providertest.Bench { return newThickBench(t) })
}

// thickBench has plain volumes, and copy-on-write areas in their groups.
type thickBench struct{ *bench }

func newThickBench(t *testing.T) thickBench { return thickBench{newBench(t)} }

// fixed is a size of copy-on-write areas.
type fixed uint64

func (f fixed) Of(_, _ uint64) uint64 { return uint64(f) }
func (f fixed) String() string        { return fmt.Sprint(uint64(f)) }

func (b thickBench) Provider() provider.Provider { return b.thick() }

func (b thickBench) thick() *provider.Thick {
	return provider.NewThick(b.control, b.lvm, fixed(24<<20), percent(1))
}

// LongestName leaves room for the layer that LVM puts below an origin.
func (thickBench) LongestName(group int) int {
	return 126 - len(dm.JoinLVMName(groups[group], "", "real"))
}

func (b thickBench) Origin(t testing.TB, group int, name string) providertest.Origin {
	t.Helper()
	return b.origin(t, group, name, func(vg, size string) []string { return []string{"-L", size, vg} })
}

func (thickBench) Others(t testing.TB, o providertest.Origin) {
	t.Helper()
	vg, _, _ := strings.Cut(o.Volume().Name, "/")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-s", "-L", "8m", "-n", "other", o.Volume().Name)
	labtest.Run(t, "lvremove", "-qq", "-y", vg+"/other")
	labtest.Run(t, "vgck", vg)
}

// Fill takes the group's free extents.
func (b thickBench) Fill(t testing.TB) {
	t.Helper()
	labtest.Run(t, "lvcreate", "-qq", "-y", "-l", "100%FREE", "-n", "filler", "ft-a")
	b.made["ft--a-filler"] = true
}
