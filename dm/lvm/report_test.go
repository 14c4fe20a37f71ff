package lvm

import (
	"reflect"
	"strings"
	"testing"

	"github.com/fermata-project/fermata/dm"
)

const report = `{
    "report": [
        {
            "vg": [
                {"vg_uuid":"g7fizz-Shc1-mQR8-cKN8-hBZY-Vx5E-LCc7J6", "vg_name":"fx-tst", "vg_size":"205520896", "vg_free":"197132288", "vg_extent_size":"4194304", "vg_extent_count":"49", "vg_free_count":"47", "vg_tags":"a,b", "vg_shared":"", "vg_lock_type":"", "vg_clustered":""}
            ],
            "pv": [
                {"pv_name":"/dev/loop0", "pv_uuid":"5AjcqG-f1qa-aMPQ-D4xr-hvGP-CTCL-S5uAiE"}
            ],
            "lv": [
                {"lv_uuid":"nQlxzv-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "lv_name":"plain", "lv_path":"/dev/fx-tst/plain", "lv_dm_path":"/dev/mapper/fx--tst-plain", "lv_size":"8388608", "lv_attr":"-wi-ao----", "lv_tags":"", "pool_lv":"", "pool_lv_uuid":"", "origin":"", "origin_uuid":"", "lv_layout":"linear", "lv_role":"public", "lv_skip_activation":"", "lv_kernel_major":"253", "lv_kernel_minor":"7", "data_percent":"", "metadata_percent":"", "lv_metadata_size":"", "lv_time":"2026-11-20 12:19:17 +0000"},
                {"lv_uuid":"aaaaaa-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "lv_name":"pool", "lv_path":"", "lv_dm_path":"/dev/mapper/fx--tst-pool", "lv_size":"104857600", "lv_attr":"twi-aotz--", "lv_tags":"", "pool_lv":"", "pool_lv_uuid":"", "origin":"", "origin_uuid":"", "lv_layout":"thin,pool", "lv_role":"private", "lv_skip_activation":"", "lv_kernel_major":"253", "lv_kernel_minor":"5", "data_percent":"12.50", "metadata_percent":"10.94", "lv_metadata_size":"4194304", "lv_time":""},
                {"lv_uuid":"bbbbbb-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "lv_name":"snap", "lv_path":"/dev/fx-tst/snap", "lv_dm_path":"/dev/mapper/fx--tst-snap", "lv_size":"1073741824", "lv_attr":"Vri---tz-k", "lv_tags":"fermata.prep,fermata.set=x", "pool_lv":"pool", "pool_lv_uuid":"aaaaaa-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "origin":"data", "origin_uuid":"cccccc-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "lv_layout":"thin,sparse", "lv_role":"public,snapshot,thinsnapshot", "lv_skip_activation":"skip activation", "lv_kernel_major":"-1", "lv_kernel_minor":"-1", "data_percent":"", "metadata_percent":"", "lv_metadata_size":"", "lv_time":"2026-11-20 12:19:17 +0100"}
            ],
            "pvseg": [ {"pv_uuid":"5AjcqG-f1qa-aMPQ-D4xr-hvGP-CTCL-S5uAiE"} ],
            "seg": [
                {"lv_uuid":"nQlxzv-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "segtype":"linear", "thin_id":"", "transaction_id":"", "chunk_size":"0"},
                {"lv_uuid":"nQlxzv-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "segtype":"striped", "thin_id":"", "transaction_id":"", "chunk_size":"0"},
                {"lv_uuid":"aaaaaa-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "segtype":"thin-pool", "thin_id":"", "transaction_id":"3", "chunk_size":"65536"},
                {"lv_uuid":"bbbbbb-FEKn-4uU1-nwAq-YrPK-0n2y-VhNuEA", "segtype":"thin", "thin_id":"2", "transaction_id":"1", "chunk_size":"0"}
            ]
        },
        {
            "pv": [ {"pv_name":"/dev/loop1", "pv_uuid":"xxxxxx-f1qa-aMPQ-D4xr-hvGP-CTCL-S5uAiE"} ]
        }
    ]
}`

func TestParseReport(t *testing.T) {
	inv, err := parseReport([]byte(report))
	if err != nil {
		t.Fatal(err)
	}
	wantVG := VG{Name: "fx-tst", UUID: "g7fizz-Shc1-mQR8-cKN8-hBZY-Vx5E-LCc7J6", Size: 205520896, Free: 197132288,
		ExtentSize: 4 << 20, ExtentCount: 49, FreeCount: 47, Tags: []string{"a", "b"}}
	if vg, ok := inv.VG("fx-tst"); !ok || !reflect.DeepEqual(vg, wantVG) {
		t.Errorf("got %+v\nwant %+v", vg, wantVG)
	}
	if len(inv.PVs) != 2 || inv.PVs[0].VG != "fx-tst" || inv.PVs[1].VG != "" {
		t.Errorf("%+v", inv.PVs)
	}
	plain, ok := inv.LV("fx-tst", "plain")
	if !ok || plain.SegType != "linear" || !plain.Active || !plain.Attr.Open() || plain.ThinID != nil || plain.DataPercent != nil ||
		plain.Created.Unix() != 1795177157 || plain.Tags != nil {
		t.Errorf("%+v", plain)
	}
	if dev, ok := plain.Dev(); !ok || dev != dm.MkDev(253, 7) {
		t.Errorf("%s %v", dev, ok)
	}
	pool, ok := inv.LV("fx-tst", "pool")
	if !ok || *pool.TransactionID != 3 || pool.ChunkSize != 65536 || *pool.DataPercent != 12.5 || pool.MetadataSize != 4<<20 {
		t.Errorf("%+v", pool)
	}
	snap, ok := inv.LVByDM("LVM-g7fizzShc1mQR8cKN8hBZYVx5ELCc7J6bbbbbbFEKn4uU1nwAqYrPK0n2yVhNuEA")
	if !ok || snap.FullName() != "fx-tst/snap" || *snap.ThinID != 2 || snap.Pool != "pool" || snap.Origin != "data" || snap.Active ||
		!snap.SkipActivation || !snap.Attr.ReadOnly() || !reflect.DeepEqual(snap.Tags, []string{"fermata.prep", "fermata.set=x"}) ||
		snap.DMName() != "fx--tst-snap" {
		t.Errorf("%+v", snap)
	}
	if _, ok := snap.Dev(); ok {
		t.Error("an inactive volume has a device")
	}
}

func TestParseReportRefuses(t *testing.T) {
	for _, c := range []struct{ old, new, bad string }{
		{"]\n}", "", "cannot read LVM's report"},
		{`"vg_size":"205520896"`, `"vg_size":"196m"`, `volume group fx-tst: vg_size is "196m"`},
		{`"thin_id":"2"`, `"thin_id":"16777216"`, "thin_id"},
		{`"lv_attr":"-wi-ao----"`, `"lv_attr":""`, "lv_attr"},
		{`"data_percent":"12.50"`, `"data_percent":"NaN"`, "data_percent"},
		{`"lv_kernel_major":"253"`, `"lv_kernel_major":"x"`, "lv_kernel_major"},
	} {
		text := strings.Replace(report, c.old, c.new, 1)
		if text == report {
			t.Fatalf("%s is not in the report", c.old)
		}
		if _, err := parseReport([]byte(text)); err == nil || !strings.Contains(err.Error(), c.bad) {
			t.Errorf("%s: %v", c.new, err)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte(report))
	f.Add([]byte(`{"report":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if inv, err := parseReport(b); (err == nil) != (inv != nil) {
			t.Errorf("%v with %v", inv, err)
		}
	})
}

func TestAttr(t *testing.T) {
	for _, c := range []struct {
		text                                                   string
		kind                                                   byte
		readOnly, active, suspended, open, invalid, skip, good bool
	}{
		{text: "Vwi-aotz--", kind: 'V', active: true, open: true, good: true},
		{text: "Vri---tz-k", kind: 'V', readOnly: true, skip: true, good: true},
		{text: "swi-I-s---", kind: 's', active: true, invalid: true, good: true},
		{text: "swi-S-s---", kind: 's', active: true, suspended: true, invalid: true, good: true},
		{text: "owi-sos---", kind: 'o', active: true, suspended: true, open: true, good: true},
		{text: "twi-cotzM-", kind: 't', active: true, open: true, good: true},
		{text: "-Ri-a-----", kind: '-', readOnly: true, active: true, good: true},
		{text: "-wi-d-----", kind: '-', good: true},
		{text: ""}, {text: "-wi-a"}, {text: "-wi-a- ---"},
	} {
		a, err := ParseAttr(c.text)
		if (err == nil) != c.good {
			t.Errorf("%q: %v", c.text, err)
		}
		if err == nil && (a.Type() != c.kind || a.ReadOnly() != c.readOnly || a.Active() != c.active || a.Suspended() != c.suspended ||
			a.Open() != c.open || a.Invalid() != c.invalid || a.SkipActivation() != c.skip) {
			t.Errorf("%s is misread", a)
		}
	}
	if a, _ := ParseAttr("twi-cotzM-"); a.Health() != 'M' {
		t.Errorf("health %c", a.Health())
	}
}
