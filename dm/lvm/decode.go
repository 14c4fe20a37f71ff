package lvm

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The report as lvm prints it: all values are strings (lvmreport(7)).
type rawReport struct {
	Report []struct {
		VG  []rawVG  `json:"vg"`
		LV  []rawLV  `json:"lv"`
		Seg []rawSeg `json:"seg"`
		PV  []rawPV  `json:"pv"`
	} `json:"report"`
}

type rawVG struct {
	UUID        string `json:"vg_uuid"`
	Name        string `json:"vg_name"`
	Size        string `json:"vg_size"`
	Free        string `json:"vg_free"`
	ExtentSize  string `json:"vg_extent_size"`
	ExtentCount string `json:"vg_extent_count"`
	FreeCount   string `json:"vg_free_count"`
	Tags        string `json:"vg_tags"`
	Shared      string `json:"vg_shared"`
	LockType    string `json:"vg_lock_type"`
	Clustered   string `json:"vg_clustered"`
}

type rawLV struct {
	UUID            string `json:"lv_uuid"`
	Name            string `json:"lv_name"`
	Path            string `json:"lv_path"`
	DMPath          string `json:"lv_dm_path"`
	Size            string `json:"lv_size"`
	Attr            string `json:"lv_attr"`
	Tags            string `json:"lv_tags"`
	Time            string `json:"lv_time"`
	Pool            string `json:"pool_lv"`
	PoolUUID        string `json:"pool_lv_uuid"`
	Origin          string `json:"origin"`
	OriginUUID      string `json:"origin_uuid"`
	OriginSize      string `json:"origin_size"`
	Layout          string `json:"lv_layout"`
	Role            string `json:"lv_role"`
	SkipActivation  string `json:"lv_skip_activation"`
	KernelMajor     string `json:"lv_kernel_major"`
	KernelMinor     string `json:"lv_kernel_minor"`
	DataPercent     string `json:"data_percent"`
	MetadataPercent string `json:"metadata_percent"`
	MetadataSize    string `json:"lv_metadata_size"`
}

type rawSeg struct {
	LVUUID        string `json:"lv_uuid"`
	SegType       string `json:"segtype"`
	ThinID        string `json:"thin_id"`
	TransactionID string `json:"transaction_id"`
	ChunkSize     string `json:"chunk_size"`
}

type rawPV struct {
	Name string `json:"pv_name"`
	UUID string `json:"pv_uuid"`
}

func parseReport(out []byte) (*Inventory, error) {
	var raw rawReport
	if err := json.Unmarshal(out, &raw); err != nil {
		return nil, fmt.Errorf("cannot read LVM's report: %w", err)
	}
	inv := &Inventory{}
	for _, r := range raw.Report {
		// A report of its own holds the physical volumes of no group.
		var vg VG
		for _, rv := range r.VG {
			var err error
			if vg, err = rv.decode(); err != nil {
				return nil, err
			}
			inv.VGs = append(inv.VGs, vg)
		}
		segs := map[string]rawSeg{}
		for _, s := range r.Seg {
			if _, ok := segs[s.LVUUID]; !ok {
				segs[s.LVUUID] = s
			}
		}
		for _, rl := range r.LV {
			lv, err := rl.decode(vg, segs[rl.UUID])
			if err != nil {
				return nil, err
			}
			inv.LVs = append(inv.LVs, lv)
		}
		for _, p := range r.PV {
			inv.PVs = append(inv.PVs, PV{Name: p.Name, VG: vg.Name, UUID: p.UUID})
		}
	}
	return inv, nil
}

func (r rawVG) decode() (VG, error) {
	f := fields{of: "volume group " + r.Name}
	vg := VG{
		Name: r.Name, UUID: r.UUID,
		Size: f.uint("vg_size", r.Size), Free: f.uint("vg_free", r.Free), ExtentSize: f.uint("vg_extent_size", r.ExtentSize),
		ExtentCount: f.uint("vg_extent_count", r.ExtentCount), FreeCount: f.uint("vg_free_count", r.FreeCount),
		Tags: list(r.Tags), LockType: r.LockType, Shared: r.Shared != "" || r.Clustered != "",
	}
	if r.LockType != "" && r.LockType != "none" {
		vg.Shared = true
	}
	return vg, f.err
}

func (r rawLV) decode(vg VG, seg rawSeg) (LV, error) {
	f := fields{of: "logical volume " + vg.Name + "/" + r.Name}
	attr, err := ParseAttr(r.Attr)
	f.keep(err)
	lv := LV{
		VG: vg.Name, Name: r.Name, UUID: r.UUID, VGUUID: vg.UUID, Path: r.Path, DMPath: r.DMPath,
		Size: f.uint("lv_size", r.Size), Attr: attr, Tags: list(r.Tags),
		SegType: seg.SegType, Layout: list(r.Layout), Role: list(r.Role),
		Pool: r.Pool, PoolUUID: r.PoolUUID, Origin: r.Origin, OriginUUID: r.OriginUUID, OriginSize: f.optional("origin_size", r.OriginSize),
		ChunkSize: f.optional("chunk_size", seg.ChunkSize), MetadataSize: f.optional("lv_metadata_size", r.MetadataSize),
		DataPercent:     f.percent("data_percent", r.DataPercent),
		MetadataPercent: f.percent("metadata_percent", r.MetadataPercent),
		KernelMajor:     f.int("lv_kernel_major", r.KernelMajor), KernelMinor: f.int("lv_kernel_minor", r.KernelMinor),
		Active: attr.Active(), SkipActivation: r.SkipActivation != "" || attr.SkipActivation(),
	}
	// A time that cannot be read is no reason not to know the volume.
	lv.Created, _ = time.Parse("2006-01-02 15:04:05 -0700", r.Time)
	if seg.ThinID != "" {
		id := uint32(f.uintMax("thin_id", seg.ThinID, 1<<24-1))
		lv.ThinID = &id
	}
	if seg.TransactionID != "" {
		id := f.uint("transaction_id", seg.TransactionID)
		lv.TransactionID = &id
	}
	return lv, f.err
}

// fields converts values and keeps the first error.
type fields struct {
	of  string
	err error
}

func (f *fields) keep(err error) {
	if err != nil && f.err == nil {
		f.err = fmt.Errorf("cannot read LVM's report on %.300s: %w", f.of, err)
	}
}

func (f *fields) bad(name, value string) {
	f.keep(fmt.Errorf("%s is %.80q", name, value))
}

func (f *fields) uint(name, value string) uint64 { return f.uintMax(name, value, math.MaxUint64) }

func (f *fields) uintMax(name, value string, limit uint64) uint64 {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil || n > limit {
		f.bad(name, value)
		return 0
	}
	return n
}

func (f *fields) optional(name, value string) uint64 {
	if value == "" {
		return 0
	}
	return f.uint(name, value)
}

func (f *fields) int(name, value string) int {
	if value == "" {
		return -1
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil {
		f.bad(name, value)
	}
	return int(n)
}

func (f *fields) percent(name, value string) *float64 {
	if value == "" {
		return nil
	}
	n, err := strconv.ParseFloat(value, 64)
	if err != nil || math.IsNaN(n) || n < 0 || n > 100 {
		f.bad(name, value)
		return nil
	}
	return &n
}

func list(value string) []string {
	if value == "" {
		return nil
	}
	return strings.Split(value, ",")
}
