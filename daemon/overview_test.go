package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/forecast"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/dm"
)

// An overview is to be had at any moment, and tells how each policy's last request ended.
func TestOverview(t *testing.T) {
	w := newWorld(t)
	w.policy.Labels = map[string]string{"secret": "label"}
	w.writing[1].Components = nil
	d := w.daemon()
	if err := d.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if o := d.Overview(); o.SetCount != 1 || len(o.Sets) != 1 || len(o.Policies) != 1 || o.Policies[0].LastRun != nil || len(o.Writers) != 2 || o.Started.IsZero() {
		t.Errorf("before anything: %+v", o)
	}
	if _, err := d.CreateSet(t.Context(), api.Request{Policy: "nosuch"}, nil); err == nil {
		t.Fatal("a set of no policy")
	}
	w.failing("writer-freeze db")
	if _, err := w.take(t.Context(), d); err == nil {
		t.Fatal("a set was taken")
	}
	if run := d.Overview().Policies[0].LastRun; run == nil || run.Outcome != "failed" || !strings.Contains(run.Error, "cannot freeze writer db") || run.Set != "" {
		t.Errorf("after a failure: %+v", run)
	}
	var within []api.Overview
	w.tap = on("Commit alpha#1", false, func() error {
		within = append(within, d.Overview())
		return nil
	})
	m, err := w.take(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	if len(within) != 1 || within[0].Running != m.ID || within[0].Phase != "window" || within[0].Frozen != 3 || within[0].FrozenSince.IsZero() {
		t.Errorf("inside the window: %+v", within)
	}
	o := d.Overview()
	run := o.Policies[0].LastRun
	if run.Outcome != "degraded" || run.Set != m.ID || run.Error != "" || run.Duration <= 0 {
		t.Errorf("after a success: %+v", run)
	}
	if o.SetCount != 2 || o.Sets[0].ID != m.ID || o.Running != "" || o.Frozen != 0 || len(o.Sets[0].Phases) == 0 || len(o.Sets[0].Writers[0].Phases) == 0 {
		t.Errorf("after a success: %+v", o)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "secret") || strings.Contains(string(text), `"data":`) || strings.Contains(string(text), `"labels":`) {
		t.Errorf("it tells what not everybody may know: %s", text)
	}
	if full, _, err := d.find(m.ID); err != nil || full.Labels["secret"] != "label" || full.Writers[0].Data == nil {
		t.Errorf("the set itself has lost something: %+v, %v", full, err)
	}
}

// However many there are of everything, and however long their texts, an overview stays small.
func TestOverviewIsBounded(t *testing.T) {
	w := newWorld(t)
	d := w.daemon()
	long := strings.Repeat("ä<", 1<<16)
	var many []string
	for range 1000 {
		many = append(many, long)
	}
	m := api.Manifest{Reasons: many, Labels: map[string]string{"l": long}}
	for range 1000 {
		m.Phases = append(m.Phases, api.Phase{Name: "x", Error: long})
		m.Volumes = append(m.Volumes, api.Snapshot{Omits: many, Invalid: long})
		m.Writers = append(m.Writers, api.Writer{Problem: long, Phases: m.Phases[:1], Last: &api.WriterRun{Error: long, Phases: m.Phases}})
	}
	d.contents.Sets = nil
	for i := range 2000 {
		m.ID, m.State = fmt.Sprint(i), api.Complete
		if i%2 == 0 {
			m.State = api.Damaged
		}
		d.contents.Sets = append(d.contents.Sets, m)
	}
	d.problems = many
	o := d.Overview()
	if o.SetCount != 2000 || o.Damaged != 1000 || len(o.Sets) != overviewSets || o.Sets[0].ID != "1999" {
		t.Errorf("%d sets, %d damaged, %d told of, first %s", o.SetCount, o.Damaged, len(o.Sets), o.Sets[0].ID)
	}
	text, err := json.Marshal(o)
	if err != nil || len(text) > 8<<20 {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}

func TestOverviewPools(t *testing.T) {
	s := pools.State{Seen: time.Now(), Err: errors.New("one is not readable")}
	for i := range 200 {
		p := pools.Pool{Name: fmt.Sprintf("vg/p%03d", i), Space: dm.Space{Type: "thin-pool", Data: dm.Fill{Used: 1, Size: 100}}}
		if i == 150 {
			p.Level, p.Reason, p.DataLeft = pools.Warning, "data", pools.Left{Time: time.Hour, Known: true}
		}
		s.Pools = append(s.Pools, p)
		s.Pools = append(s.Pools, pools.Pool{Name: fmt.Sprintf("vg/s%03d", i), DataLeft: pools.Left{Time: forecast.Never, Known: true},
			Space: dm.Space{Type: "snapshot", Data: dm.Fill{Used: uint64(i), Size: 1000}}})
	}
	var o api.Overview
	addPools(&o, s)
	o = brief(o)
	if o.AreaCount != 200 || len(o.Areas) != overviewFew || o.Areas[0].Name != "vg/s199" || !o.Areas[0].Trend.Steady || o.PoolsUnseen == "" {
		t.Errorf("%d areas, first %+v", o.AreaCount, o.Areas[0])
	}
	if len(o.Pools) != overviewLines || o.Pools[0].Name != "vg/p150" || o.Pools[0].Trend.FullIn != time.Hour || o.Pools[0].Level != "warning" {
		t.Errorf("%d pools, first %+v", len(o.Pools), o.Pools[0])
	}
}

func TestLastAct(t *testing.T) {
	if got := lastAct([]acts.Report{{Act: acts.Warn}, {Act: acts.Clear}}); got != nil {
		t.Errorf("nothing was done: %+v", got)
	}
	if got := lastAct([]acts.Report{{Act: acts.ExtendData, Outcome: "no"}, {Act: acts.ExtendData, Outcome: "ok"}, {Act: acts.Clear}}); got == nil || got.Act != string(acts.ExtendData) || got.Outcome != "ok" {
		t.Errorf("it was extended: %+v", got)
	}
}
