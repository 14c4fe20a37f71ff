package timeline

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
)

const ms = time.Millisecond

func phase(name string, start, took time.Duration) api.Phase {
	return api.Phase{Name: name, Start: start, Duration: took}
}

func held(p api.Phase) api.Phase {
	p.Window = true
	return p
}

// set is one that took ten seconds, and whose window took a millisecond of them.
func set() api.Manifest {
	return api.Manifest{
		Phases: []api.Phase{
			phase("resolve", 0, 2000*ms), phase("arm", 2000*ms, 6000*ms), phase("freeze-writers", 8000*ms, 100*ms),
			// The step comes after its parts, as the daemon writes them.
			held(phase("freeze", 8200*ms, ms/2)), held(phase("commit", 8200*ms+ms/2, ms/4)), held(phase("thaw", 8200*ms+ms*3/4, ms/4)),
			phase("window", 8199*ms, 2*ms), phase("thaw-writers", 8250*ms, 50*ms), phase("finalise", 8300*ms, 1700*ms),
		},
		Writers: []api.Writer{
			{Name: "db", Phases: []api.Phase{phase("freeze", 8000*ms, 100*ms), held(phase("hold", 8100*ms, 150*ms)),
				phase("prepare", 2000*ms, 3000*ms), phase("thaw", 8250*ms, 50*ms)}},
			{Name: "old", Phases: []api.Phase{phase("freeze", 0, 100*ms), held(phase("hold", 0, 7*ms))}},
		},
		Volumes: []api.Snapshot{{MountPoint: "/srv", Volume: "vg/srv", Frozen: true}, {Volume: "vg/raw"}},
	}
}

func show(t Timeline) string {
	var b strings.Builder
	for _, p := range t.Parts {
		fmt.Fprintf(&b, "%s %.2f-%.2f %v %v\n", p.Name, p.From, p.To, p.Took, p.Frozen)
	}
	for _, r := range t.Rows {
		fmt.Fprintf(&b, "%d %s %v %v", r.Kind, r.Name, r.Start, r.Took)
		for _, bar := range r.Bars {
			fmt.Fprintf(&b, ", %s %.2f-%.2f %v", bar.Name, bar.From, bar.To, bar.Held)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestOf(t *testing.T) {
	want := `prepare 0.00-0.25 8s false
hold 0.25-0.40 200ms false
frozen 0.40-0.75 1ms true
release 0.75-0.85 99ms false
finish 0.85-1.00 1.7s false
0 resolve 0s 2s, resolve 0.00-0.06 false
0 arm 2s 6s, arm 0.06-0.25 false
0 freeze-writers 8s 100ms, freeze-writers 0.25-0.33 false
0 window 8.199s 2ms, window 0.40-0.75 false
1 freeze 8.2s 500µs, freeze 0.40-0.57 true
1 commit 8.2005s 250µs, commit 0.57-0.66 true
1 thaw 8.20075s 250µs, thaw 0.66-0.75 true
0 thaw-writers 8.25s 50ms, thaw-writers 0.80-0.85 false
0 finalise 8.3s 1.7s, finalise 0.85-1.00 false
2 db 2s 150ms, prepare 0.06-0.16 false, freeze 0.25-0.33 false, hold 0.33-0.80 true, thaw 0.80-0.85 false
2 old 0s 7ms
3 /srv 8.2s 1ms, frozen 0.40-0.75 true
`
	if diff := cmp.Diff(want, show(Of(set()))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWithout(t *testing.T) {
	// Of a set whose manifest was lost.
	if got := Of(api.Manifest{Volumes: []api.Snapshot{{Volume: "vg/x", Frozen: true}}}); len(got.Rows) != 0 || len(got.Parts) != 0 {
		t.Errorf("without times: %+v", got)
	}
	// Of a set that was undone before anything was frozen, and of one whose writers were not asked.
	got := show(Of(api.Manifest{Phases: []api.Phase{phase("resolve", 0, 3*ms), phase("arm", 3*ms, ms)}}))
	if want := "prepare 0.00-1.00 4ms false\n0 resolve 0s 3ms, resolve 0.00-0.75 false\n0 arm 3ms 1ms, arm 0.75-1.00 false\n"; got != want {
		t.Errorf("nothing frozen: %q", got)
	}
	got = show(Of(api.Manifest{Phases: []api.Phase{held(phase("commit", 0, ms))}}))
	if want := "frozen 0.00-1.00 1ms true\n1 commit 0s 1ms, commit 0.00-1.00 true\n"; got != want {
		t.Errorf("only a window: %q", got)
	}
	if got := Of(api.Manifest{Phases: []api.Phase{{}}}); len(got.Parts) != 0 || got.Rows[0].Bars[0].To != 0 {
		t.Errorf("no time passed: %+v", got)
	}
}

// Whatever a manifest says, everything has a place on the axis, and what is later is not further to the left.
func TestAnyManifest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names := []string{"freeze-writers", "thaw-writers", "window", "x"}
	some := func() api.Phase {
		return api.Phase{Name: names[r.IntN(len(names))], Start: time.Duration(r.Int64N(1000) - 100), Duration: time.Duration(r.Int64N(1000) - 100), Window: r.IntN(3) == 0}
	}
	for range 2000 {
		var m api.Manifest
		for range r.IntN(8) {
			m.Phases = append(m.Phases, some())
		}
		m.Writers = []api.Writer{{Phases: []api.Phase{some(), some()}}}
		m.Volumes = []api.Snapshot{{Frozen: true}}
		at := 0.0
		for _, p := range Of(m).Parts {
			if p.From < at-1e-9 || p.To < p.From || p.To > 1 || p.Took <= 0 {
				t.Fatalf("%+v: part %+v after %v", m, p, at)
			}
			at = p.To
		}
		for _, row := range Of(m).Rows {
			for _, b := range row.Bars {
				if b.From < 0 || b.To < b.From || b.To > 1 {
					t.Fatalf("%+v: bar %+v", m, b)
				}
			}
		}
	}
}
