package bus_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/bus/bustest"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
)

func TestPoolActed(t *testing.T) {
	f := start(t, bustest.Anybody)
	ch := f.signals()
	for i := range 3 {
		f.server.PoolActed(acts.Report{Pool: "vg/pool", Act: acts.ExtendData, Outcome: acts.Done, Level: pools.Warning, Detail: fmt.Sprint(i)})
	}
	n := 0
	got := f.until(ch, func(s *dbus.Signal) bool {
		if short(s) == " PoolActed" {
			n++
		}
		return n == 3
	})
	if want, said := "[vg/pool extend-data ok warning 2]", fmt.Sprint(got[len(got)-1].Body); said != want {
		t.Errorf("told of %s, want %s", said, want)
	}
}

func TestExtendPool(t *testing.T) {
	f := start(t, bustest.Anybody)
	v := func(x any) dbus.Variant { return dbus.MakeVariant(x) }
	for _, c := range []struct {
		name string
		o    options
	}{
		{"vg/pool", options{}},
		{"vg/pool", options{"size_bytes": v(uint64(0))}},
		{"vg/pool", options{"size_bytes": v(uint64(1)), "percent": v(20.0)}},
		{"vg/pool", options{"percent": v(-1.0)}},
		{"vg/pool", options{"percent": v(math.NaN())}},
		{"vg/pool", options{"percent": v(math.Inf(1))}},
		{"vg/pool", options{"percent": v(1000.1)}},
		{"vg/pool", options{"percent": v("20%")}},
		{"vg/pool", options{"by": v(20.0)}},
		{"", options{"percent": v(20.0)}},
	} {
		err := call(f.conn, api.ManagerPath, api.ManagerInterface+".ExtendPool", c.name, c.o).Err
		if e, ok := err.(dbus.Error); !ok || e.Name != api.BusName+".Error.Invalid" {
			t.Errorf("%q %v: %v", c.name, c.o, err)
		}
	}
	outcome, text, result := f.wait(f.path(api.ManagerInterface+".ExtendPool", "vg/pool", options{"percent": v(50.0), "metadata": v(true)}))
	if outcome != "ok" || result == "" {
		t.Errorf("%s %s %s", outcome, text, result)
	}
	if outcome, text, _ := f.wait(f.path(api.ManagerInterface+".MeasurePool", "vg/nosuch")); outcome != "NotFound" {
		t.Errorf("%s %s", outcome, text)
	}
}
