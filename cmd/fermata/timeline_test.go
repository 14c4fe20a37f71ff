package main

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/timeline"
)

func TestDrawTimeline(t *testing.T) {
	ms := time.Millisecond
	m := api.Manifest{
		Phases: []api.Phase{
			{Name: "resolve", Duration: 181 * ms}, {Name: "prepare-writers", Start: 181 * ms, Duration: 6530 * ms},
			{Name: "arm", Start: 6711 * ms, Duration: 9170 * ms}, {Name: "freeze-writers", Start: 16000 * ms, Duration: 79 * ms},
			{Name: "guard", Start: 16079 * ms, Duration: 231 * ms}, {Name: "window", Start: 16310 * ms, Duration: 14 * ms},
			{Name: "freeze", Start: 16310 * ms, Duration: 8 * ms, Window: true}, {Name: "commit", Start: 16318 * ms, Duration: 900 * time.Microsecond, Window: true},
			{Name: "thaw", Start: 16319 * ms, Duration: 5 * ms, Window: true}, {Name: "thaw-writers", Start: 16326 * ms, Duration: 6 * ms},
			{Name: "finalise", Start: 16332 * ms, Duration: 2250 * ms},
		},
		Writers: []api.Writer{
			{Name: "postgresql", Phases: []api.Phase{{Name: "prepare", Start: 182 * ms, Duration: 6500 * ms},
				{Name: "freeze", Start: 16000 * ms, Duration: 79 * ms}, {Name: "hold", Start: 16079 * ms, Duration: 248 * ms, Window: true},
				{Name: "thaw", Start: 16327 * ms, Duration: 5 * ms}}},
			{Name: "lazy\x1b", Phases: []api.Phase{{Name: "prepare", Start: 182 * ms, Duration: 5000 * ms, Error: "not within 5s"}}},
		},
		Volumes: []api.Snapshot{{MountPoint: "/srv/a/very/long/path/of/a/mount/point", Frozen: true}, {Volume: "vg/raw"}},
	}
	for _, tt := range []struct {
		name  string
		s     strokes
		width int
		want  string
	}{
		{"ascii", signs, 96, ascii96},
		{"utf-8", blocks, 80, utf80},
	} {
		lines := drawTimeline(timeline.Of(m), tt.s, tt.width)
		for _, l := range lines {
			if n := utf8.RuneCountInString(l); n > tt.width {
				t.Errorf("%s: %d columns: %q", tt.name, n, l)
			}
		}
		if diff := cmp.Diff(tt.want, "\n"+strings.Join(lines, "\n")+"\n"); diff != "" {
			t.Errorf("%s: -want +got:\n%s\n%s", tt.name, diff, strings.Join(lines, "\n"))
		}
	}
	// However narrow: no panic, and everything is there.
	if n := len(drawTimeline(timeline.Of(m), blocks, 1)); n != len(strings.Split(strings.Trim(ascii96, "\n"), "\n")) {
		t.Errorf("%d lines in one column", n)
	}
}

const ascii96 = `
                                       prepare    :  hold  :       frozen        :     :finish
PHASE                        TOOK       16.0 s    : 310 ms :       14.0 ms       :     :2.25 s
resolve                    181 ms  =              :        :                     :     :
prepare-writers            6.53 s  ======         :        :                     :     :
arm                        9.17 s        =========:        :                     :     :
freeze-writers            79.0 ms                 ===      :                     :     :
guard                      231 ms                 :  ======:                     :     :
window                    14.0 ms                 :        ======================:     :
  freeze                  8.00 ms                 :        #############         :     :
  commit                   900 µs                 :        :            #        :     :
  thaw                    5.00 ms                 :        :             ########:     :
thaw-writers              6.00 ms                 :        :                     :=====:
finalise                   2.25 s                 :        :                     :     ========
WRITER                       HELD                 :        :                     :     :
postgresql                 248 ms  ======         ===##############################====:
lazy?                           -  =====          :        :                     :     :
  prepare: not within 5s
VOLUME                     FROZEN                 :        :                     :     :
/srv/a/very/long/path/o~  14.0 ms                 :        ######################:     :
`

const utf80 = `
                                  prepare  ┊ hold  ┊     frozen     ┊    ┊
PHASE                    TOOK     16.0 s   ┊310 ms ┊    14.0 ms     ┊    ┊
resolve                181 ms  ━           ┊       ┊                ┊    ┊
prepare-writers        6.53 s  ━━━━━       ┊       ┊                ┊    ┊
arm                    9.17 s       ━━━━━━━┊       ┊                ┊    ┊
freeze-writers        79.0 ms              ━━      ┊                ┊    ┊
guard                  231 ms              ┊ ━━━━━━┊                ┊    ┊
window                14.0 ms              ┊       ━━━━━━━━━━━━━━━━━┊    ┊
  freeze              8.00 ms              ┊       █████████        ┊    ┊
  commit               900 µs              ┊       ┊        ██      ┊    ┊
  thaw                5.00 ms              ┊       ┊          ██████┊    ┊
thaw-writers          6.00 ms              ┊       ┊                ┊━━━━┊
finalise               2.25 s              ┊       ┊                ┊    ━━━━━━
WRITER                   HELD              ┊       ┊                ┊    ┊
postgresql             248 ms  ━━━━━       ━━█████████████████████████━━━┊
lazy?                       -  ━━━━        ┊       ┊                ┊    ┊
  prepare: not within 5s
VOLUME                 FROZEN              ┊       ┊                ┊    ┊
/srv/a/very/long/pa…  14.0 ms              ┊       █████████████████┊    ┊
`
