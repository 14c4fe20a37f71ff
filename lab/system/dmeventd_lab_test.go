//go:build lab

package system

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

// dmeventd extends a pool that it watches, and Fermata, which may extend it too, leaves it alone.
func TestDmeventd(t *testing.T) {
	const local = "/etc/lvm/lvmlocal.conf"
	before, err := os.ReadFile(local)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(local, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	smallGroup(t, 600)
	t.Cleanup(func() {
		write(before)
		labtest.Run(t, "systemctl", "stop", "dm-event.service", "dm-event.socket")
	})
	// dmeventd acts later than Fermata would, so that one sees that Fermata leaves it alone.
	write([]byte(string(before) + "\nactivation {\n\tmonitoring=1\n\tthin_pool_autoextend_threshold=95\n\tthin_pool_autoextend_percent=50\n}\n"))
	labtest.Run(t, "systemctl", "start", "dm-event.socket")
	smallPool(t, "pool", 100, 4)
	t.Logf("lvs: %s", labtest.Run(t, "lvs", "-o", "name,size,seg_monitor", "vg/pool"))
	told := listen(t)
	configure(t, map[string]string{"fermata.yaml": "pools:\n  extend: {at: warning, by: 50%}\n" + withHook})
	must(t, "status")
	fillPool(t, 0, 90, 40, nil)
	eventually(t, "Fermata leaves it to dmeventd", func() bool { return !told("pool")["extend-data left"].IsZero() })
	fillPool(t, 90, 98, 40, nil)
	eventually(t, "dmeventd extends it", func() bool {
		size, err := strconv.ParseFloat(strings.TrimSpace(labtest.Run(t, "lvs", "--noheadings", "--nosuffix", "--units", "m", "-o", "lv_size", "vg/pool")), 64)
		if err != nil {
			t.Fatal(err)
		}
		return size > 100
	})
	is(t, `fermata_pool_level{level="ok",pool="vg/pool"}`, 1)
	var p api.PoolDetails
	decode(t, must(t, "pool", "show", "vg/pool", "--json"), &p)
	if !strings.Contains(p.Extension, "dmeventd") {
		t.Errorf("it is extended by %q", p.Extension)
	}
	if got := told("pool"); !got["extend-data ok"].IsZero() {
		t.Errorf("Fermata has extended it: %v", got)
	}
	labtest.Run(t, "lvremove", "-qq", "-ff", "-y", "vg/pool")
}
