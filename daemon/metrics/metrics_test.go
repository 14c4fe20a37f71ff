package metrics

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"

	"github.com/fermata-project/fermata/daemon"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/forecast"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/dm"
)

var update = flag.Bool("update", false, "write what is found into testdata")

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func set(policy string, hour int, state api.State, snapshots ...string) api.Manifest {
	m := api.Manifest{Policy: policy, State: state, Created: noon.Add(time.Duration(hour) * time.Hour)}
	for _, s := range snapshots {
		m.Volumes = append(m.Volumes, api.Snapshot{Volume: "vg/data", Name: s})
	}
	return m
}

func thin(name string, used, metadata uint64, level pools.Level, left, metadataLeft pools.Left) pools.Pool {
	return pools.Pool{Name: name, Level: level, DataLeft: left, MetadataLeft: metadataLeft, Space: dm.Space{Type: "thin-pool",
		Data: dm.Fill{Used: used << 30, Size: 100 << 30}, Metadata: dm.Fill{Used: metadata << 20, Size: 100 << 20}}}
}

func cow(name string, used uint64, level pools.Level, left pools.Left) pools.Pool {
	return pools.Pool{Name: name, Level: level, DataLeft: left, Space: dm.Space{Type: "snapshot", Data: dm.Fill{Used: used << 20, Size: 100 << 20}}}
}

// example is a host on which everything happens.
func example() *Metrics {
	never := pools.Left{Time: forecast.Never, Known: true}
	m := New(Facts{
		Version: "1.0", Policies: map[string]Policy{"db": {15 * time.Minute, noon.Add(-time.Hour)}, "idle": {0, noon.Add(-time.Minute)}, "wrong": {}},
		Sets: func() []api.Manifest {
			return []api.Manifest{set("", 0, api.Complete), set("db", 1, api.Complete, "vg/s1"), set("db", 2, api.Complete, "vg/s2"), set("db", 3, api.Damaged, "vg/s3")}
		},
		Pools: func() pools.State {
			return pools.State{Seen: noon, Err: errors.New("one is not readable"), Pools: []pools.Pool{
				thin("vg/pool", 85, 10, pools.Warning, pools.Left{Time: 90 * time.Minute, Known: true}, never),
				thin("vg/young", 1, 1, pools.OK, pools.Left{}, pools.Left{}),
				cow("vg/s1", 10, pools.OK, never), cow("vg/s2", 60, pools.OK, pools.Left{Time: time.Hour, Known: true}), cow("vg/s3", 0, pools.Failed, pools.Left{}),
				cow("foreign/x", 5, pools.OK, pools.Left{}),
			}}
		},
		Groups: func() []pools.Group {
			return []pools.Group{
				{Name: "vg", Size: 10 << 30, Free: 1 << 30, Used: true, Level: pools.Warning, Seen: noon},
				{Name: "hangs", Err: errors.New("its disks do not answer")},
			}
		},
		Frozen:   func() daemon.Frozen { return daemon.Frozen{Filesystems: 2, Since: noon.Add(time.Second)} },
		Problems: func() int { return 3 },
	})
	m.now = func() time.Time { return noon.Add(time.Minute) }
	taken := api.Manifest{Policy: "db", Window: 1200 * time.Microsecond, Duration: 2 * time.Second,
		Phases: []api.Phase{{Name: "arm", Duration: time.Second}, {Name: "freeze", Duration: 300 * time.Microsecond}},
		Writers: []api.Writer{{Name: "postgresql", Phases: []api.Phase{{Name: "prepare", Duration: 40 * time.Millisecond},
			{Name: "hold", Duration: 5 * time.Millisecond}}}}}
	m.Ended(daemon.Ended{Manifest: taken})
	taken.Reasons = []string{"a writer was left out"}
	m.Ended(daemon.Ended{Manifest: taken})
	failed := api.Manifest{Policy: "db", Phases: []api.Phase{{Name: "freeze-writers", Duration: 10 * time.Second, Error: "no"}},
		Writers: []api.Writer{{Name: "postgresql", Phases: []api.Phase{{Name: "freeze", Duration: 10 * time.Second, Error: "not within 10s"}}}}}
	m.Ended(daemon.Ended{Manifest: failed, Err: api.Errorf(api.Timeout, "too late"), Released: 2})
	m.Ended(daemon.Ended{Err: errors.New("for another reason")})
	m.Acted(acts.Report{Pool: "vg/pool", Act: acts.Warn, Outcome: "warning"})
	m.Acted(acts.Report{Pool: "vg", Act: acts.Warn, Outcome: "warning"})
	m.Acted(acts.Report{Pool: "vg/pool", Act: acts.ExtendData, Outcome: acts.Done})
	m.Acted(acts.Report{Pool: "vg/gone", Act: acts.Delete, Outcome: acts.Failed})
	m.Acted(acts.Report{Pool: "vg/s1", COW: true, Act: acts.ExtendCOW, Outcome: acts.Done})
	return m
}

// text is the exposition, without what tells of the process.
func text(t *testing.T, m *Metrics) string {
	t.Helper()
	families, err := m.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "fermata_") {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(&b, f); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestExposition(t *testing.T) {
	got, golden := text(t, example()), filepath.Join("testdata", "metrics.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-%s +now:\n%s", golden, diff)
	}
}

// What promtool check metrics would say.
func TestLint(t *testing.T) {
	found, err := testutil.GatherAndLint(example())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// No series outlives what it tells of, and what is many has no series each.
func TestSeries(t *testing.T) {
	state := pools.State{}
	var sets []api.Manifest
	m := New(Facts{Policies: nil, Sets: func() []api.Manifest { return sets }, Pools: func() pools.State { return state },
		Groups: func() []pools.Group { return nil }, Frozen: func() daemon.Frozen { return daemon.Frozen{} }, Problems: func() int { return 0 }})
	before := strings.Count(text(t, m), "\n")
	for i := range 1000 {
		name := fmt.Sprintf("vg/s%d", i)
		sets = append(sets, set("db", i, api.Complete, name))
		state.Pools = append(state.Pools, cow(name, 1, pools.OK, pools.Left{}))
	}
	for i := range 50 {
		state.Pools = append(state.Pools, thin(fmt.Sprintf("vg/pool%d", i), 1, 1, pools.OK, pools.Left{}, pools.Left{}))
	}
	if n := strings.Count(text(t, m), "\n") - before; n > 50*12+60 {
		t.Errorf("1,000 snapshots and 50 pools add %d lines", n)
	}
	state, sets = pools.State{}, nil
	if after := strings.Count(text(t, m), "\n"); after != before {
		t.Errorf("%d lines of what is gone", after-before)
	}
}

// Of two groups of one name the first is told of, and nothing else is lost.
func TestSameName(t *testing.T) {
	state := pools.State{Pools: []pools.Pool{thin("vg/pool", 1, 1, pools.OK, pools.Left{}, pools.Left{}), thin("vg/pool", 2, 2, pools.OK, pools.Left{}, pools.Left{})}}
	m := New(Facts{Sets: func() []api.Manifest { return nil }, Pools: func() pools.State { return state },
		Groups: func() []pools.Group {
			return []pools.Group{{Name: "vg", UUID: "a", Size: 10, Seen: noon}, {Name: "vg", UUID: "b", Size: 20, Seen: noon}}
		},
		Frozen: func() daemon.Frozen { return daemon.Frozen{} }, Problems: func() int { return 0 }})
	got := text(t, m)
	for _, want := range []string{`fermata_volume_group_size_bytes{group="vg"} 10`, `fermata_pool_used_bytes{part="data",pool="vg/pool"} 1.073741824e+09`} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

// BenchmarkScrape is a scrape of 1,000 snapshots in 50 pools.
func BenchmarkScrape(b *testing.B) {
	state := pools.State{}
	var sets []api.Manifest
	for i := range 1000 {
		name := fmt.Sprintf("vg/s%d", i)
		sets = append(sets, set("db", i, api.Complete, name))
		state.Pools = append(state.Pools, cow(name, 1, pools.OK, pools.Left{}))
	}
	for i := range 50 {
		state.Pools = append(state.Pools, thin(fmt.Sprintf("vg/pool%d", i), 1, 1, pools.OK, pools.Left{}, pools.Left{}))
	}
	m := New(Facts{Sets: func() []api.Manifest { return sets }, Pools: func() pools.State { return state },
		Groups: func() []pools.Group { return nil }, Frozen: func() daemon.Frozen { return daemon.Frozen{} }, Problems: func() int { return 0 }})
	for b.Loop() {
		if _, err := m.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}
