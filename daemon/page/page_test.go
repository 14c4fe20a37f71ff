package page

import (
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fermata-project/fermata/daemon/api"
)

var update = flag.Bool("update", false, "write what is found into testdata")

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// example is a host on which everything happens.
func example() *api.Overview {
	ms := time.Millisecond
	step := func(name string, start, took time.Duration) api.Phase {
		return api.Phase{Name: name, Start: start, Duration: took}
	}
	held := func(name string, start, took time.Duration) api.Phase {
		return api.Phase{Name: name, Start: start, Duration: took, Window: true}
	}
	set := func(hours int, policy string, c api.Consistency, reasons ...string) api.Manifest {
		at := noon.Add(-time.Duration(hours) * time.Hour)
		return api.Manifest{
			ID: at.Format("20060102T150405") + "_7f3a", Policy: policy, State: api.Complete, Created: at, Consistency: c, Reasons: reasons,
			Window: 15400 * time.Microsecond, Duration: 18800 * ms,
			Phases: []api.Phase{
				step("resolve", 2*ms, 181*ms), step("open", 203*ms, 225*ms), step("probe", 429*ms, 5*ms), step("probed", 434*ms, 3*ms),
				step("prepare-writers", 438*ms, 6530*ms), step("arm", 6970*ms, 9170*ms), step("flush", 16140*ms, 96*ms),
				step("freeze-writers", 16236*ms, 79*ms), step("guard", 16315*ms, 231*ms), step("window", 16546*ms, 16*ms),
				held("freeze", 16546*ms, 7800*time.Microsecond), held("pre-commit", 16553800*time.Microsecond, 155*time.Microsecond),
				held("commit", 16553955*time.Microsecond, 973*time.Microsecond), held("post-commit", 16554928*time.Microsecond, 81*time.Microsecond),
				held("thaw", 16555009*time.Microsecond, 6391*time.Microsecond), step("unguard", 16562*ms, 3300*time.Microsecond),
				step("thaw-writers", 16566*ms, 6500*time.Microsecond), step("verify", 16573*ms, 500*time.Microsecond), step("finalise", 16574*ms, 2250*ms),
			},
			Writers: []api.Writer{{Name: "postgresql", Level: "back-end", Required: true, State: "released", Phases: []api.Phase{
				step("prepare", 439*ms, 6500*ms), step("freeze", 16236*ms, 79*ms), held("hold", 16315*ms, 251*ms), step("thaw", 16566*ms, 6*ms)}}},
			Volumes: []api.Snapshot{{Volume: "db/data", MountPoint: "/srv/pg", Frozen: true}, {Volume: "db/fast", MountPoint: "/srv/fast", Frozen: true}, {Volume: "db/raw"}},
		}
	}
	damaged := set(31, "home", api.Filesystem, "1 of 2 snapshots exist")
	damaged.State = api.Damaged
	lost := set(50, "", api.Crash, "the manifest was lost; this is what the volumes' tags tell")
	lost.Phases, lost.Window = nil, 0
	lazy := set(25, "db", api.Filesystem, "cannot freeze writer redis: not within 5s")
	lazy.Writers = append(lazy.Writers, api.Writer{Name: "redis", Phases: []api.Phase{{Name: "freeze", Start: 16236 * ms, Duration: 60 * ms, Error: "not within 5s"}}})
	return &api.Overview{
		Version: "1.0", Host: "db1.example.org", Time: noon.Add(-time.Second), Started: noon.Add(-74 * time.Hour), Running: "20261121T120000_0c1d", Phase: "window",
		Waiting: 1, Frozen: 2, FrozenSince: noon.Add(-time.Second),
		Problems: []string{"the state directory /var/lib/fermata is full: no space left on device"},
		Pools: []api.Pool{
			{Name: "db/pool", Level: "warning", Reason: "data 83.2 % full", Size: 100 << 30, Used: 832 << 30 / 10, MetadataSize: 128 << 20, MetadataUsed: 12 << 20,
				Trend: api.Trend{FullIn: 190 * time.Minute}, MetadataTrend: api.Trend{Steady: true}},
			{Name: "vg/pool", LastAct: &api.PoolAct{Act: "extend-data", Outcome: "ok", Time: noon.Add(-3 * time.Hour)}, Level: "ok", Size: 2 << 40, Used: 700 << 30, MetadataSize: 1 << 30, MetadataUsed: 80 << 20, Trend: api.Trend{FullIn: 41 * 24 * time.Hour}},
			{Name: "old/pool", Level: "failed", Reason: "the pool is read-only: out of metadata space, or damaged; see dmesg"},
		},
		Areas: []api.Pool{{Name: "vg/home.20261120T050000_7f3a", Level: "critical", Reason: "data 96.0 % full", Size: 5 << 30, Used: 48 << 30 / 10, Trend: api.Trend{FullIn: 11 * time.Minute}}},
		Groups: []api.Group{
			{Name: "db", Size: 931 << 30, Free: 20 << 30, Used: true, Level: "critical", Reason: "97.9 % of the volume group are in use: what is taken from it may not find room"},
			{Name: "root", Size: 100 << 30, Level: "ok"},
			{Name: "vg", Problem: "its disks have not answered for 5s"},
		},
		AreaCount: 7, PoolsSeen: noon.Add(-20 * time.Second),
		Policies: []api.Policy{
			{Name: "broken", Problem: "/etc/fermata/policies.d/broken.yaml:3:1: there is no key volume"},
			{Name: "db", Volumes: []string{"/srv/pg", "/srv/fast"}, Interval: time.Hour, Sets: 48, Last: noon.Add(-time.Hour), LastRun: &api.PolicyRun{Time: noon.Add(-time.Hour), Outcome: "ok", Set: "x"}},
			{Name: "home", Volumes: []string{"/home"}, Interval: 24 * time.Hour, Sets: 7, Last: noon.Add(-55 * time.Hour), LastRun: &api.PolicyRun{Time: noon.Add(-7 * time.Hour), Outcome: "refused", Error: "pool vg/pool has no room"}},
			{Name: "idle", Volumes: []string{"/nowhere"}},
		},
		Writers: []api.Writer{
			{Name: "postgresql", Type: "exec", Level: "back-end", Required: true, Last: &api.WriterRun{State: "released", Time: noon.Add(-time.Hour)}},
			{Name: "redis", Type: "exec", Level: "back-end", Last: &api.WriterRun{State: "failed", Time: noon.Add(-25 * time.Hour), Error: "not within 5s"}},
			{Name: "web", Type: "systemd-unit", Level: "front-end", Required: true},
		},
		Sets:     []api.Manifest{set(1, "db", api.Application), set(7, "home", api.Filesystem), lazy, damaged, lost},
		SetCount: 1055, Damaged: 1,
	}
}

func render(t *testing.T, o *api.Overview, err error) string {
	t.Helper()
	text, failed := Render(o, err, noon)
	if failed != nil {
		t.Fatal(failed)
	}
	return string(text)
}

func TestPage(t *testing.T) {
	got, golden := render(t, example(), nil), filepath.Join("testdata", "page.html")
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

// serving is the page of one overview, or of none.
func serving(t *testing.T, o *api.Overview, err error) http.Handler {
	mux := http.NewServeMux()
	Handle(mux, func(context.Context) (*api.Overview, error) { return o, err }, slog.New(slog.NewTextHandler(io.Discard, nil)))
	return mux
}

func get(t *testing.T, h http.Handler, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

func TestHandle(t *testing.T) {
	h := serving(t, example(), nil)
	for path, kind := range map[string]string{"/": "text/html; charset=utf-8", "/style.css": "text/css; charset=utf-8", "/icon.svg": "image/svg+xml"} {
		w := get(t, h, "GET", path)
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != kind || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %v", path, w.Code, w.Header())
		}
		if p := w.Header().Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "unsafe") || strings.Contains(p, "script") {
			t.Errorf("%s: policy %q", path, p)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, w.Header())
		}
	}
	if w := get(t, h, "GET", "/nothing"); w.Code != http.StatusNotFound {
		t.Errorf("of no page: %d", w.Code)
	}
	if w := get(t, h, "POST", "/"); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}

// Without the daemon the page says so, and shows what it said last.
func TestWithoutDaemon(t *testing.T) {
	down := errors.New("cannot reach the daemon: connection refused")
	w := get(t, serving(t, nil, down), "GET", "/")
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "The daemon does not answer") || !strings.Contains(w.Body.String(), "connection refused") ||
		strings.Contains(w.Body.String(), "Pools") {
		t.Errorf("%d\n%s", w.Code, w.Body)
	}
	mux, answer := http.NewServeMux(), error(nil)
	Handle(mux, func(context.Context) (*api.Overview, error) { return example(), answer }, slog.New(slog.NewTextHandler(io.Discard, nil)))
	get(t, mux, "GET", "/")
	answer = down
	w = get(t, mux, "GET", "/")
	if text := w.Body.String(); !strings.Contains(text, "The daemon does not answer") || !strings.Contains(text, "db/pool") || !strings.Contains(text, "What follows is what it said last") {
		t.Errorf("%d\n%s", w.Code, text)
	}
}

// Nothing at all is a page too.
func TestEmpty(t *testing.T) {
	text := render(t, &api.Overview{}, nil)
	for _, want := range []string{"All is well", "No thin pool was found.", "No policy is configured.", "There is no set.", "No writer is declared."} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

// Every text that comes from elsewhere is text: each field of an overview is made to look like markup.
func TestEscapes(t *testing.T) {
	evil := `"><script>alert(1)</script><img src=x onerror=alert(1)>'`
	o := example()
	plant(reflect.ValueOf(o).Elem(), evil)
	for _, text := range []string{render(t, o, nil), render(t, o, errors.New(evil)), render(t, nil, errors.New(evil))} {
		if strings.Contains(text, "<script") || strings.Contains(text, "<img") || !strings.Contains(text, "&lt;script&gt;") {
			t.Errorf("not escaped:\n%s", text)
		}
		elements(t, text, func(e xml.StartElement) {
			for _, a := range e.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "style" {
					t.Errorf("<%s> has %s", e.Name.Local, a.Name.Local)
				}
			}
		})
	}
}

// plant puts a text into every string below a value.
func plant(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		if !v.IsNil() {
			plant(v.Elem(), text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				plant(v.Field(i), text)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			plant(v.Index(i), text)
		}
	}
}

// elements calls f with each element of a page, which is well-formed.
func elements(t *testing.T, text string, f func(xml.StartElement)) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	d.Entity = xml.HTMLEntity
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			f(e)
		}
	}
}

// What a screen reader needs.
func TestAccessible(t *testing.T) {
	count := map[string]int{}
	text := render(t, example(), nil)
	elements(t, text, func(e xml.StartElement) {
		count[e.Name.Local]++
		attr := map[string]string{}
		for _, a := range e.Attr {
			attr[a.Name.Local] = a.Value
		}
		switch e.Name.Local {
		case "svg":
			if attr["role"] == "img" {
				count["picture"]++
			} else if attr["aria-hidden"] != "true" {
				t.Errorf("a picture that is neither one nor hidden: %v", attr)
			}
		case "section":
			if !strings.Contains(text, `<h2 id="`+attr["aria-labelledby"]+`">`) {
				t.Errorf("a section without a heading: %v", attr)
			}
		case "th":
			if attr["scope"] == "" {
				t.Errorf("a head of nothing: %v", attr)
			}
		}
	})
	for _, name := range []string{"h1", "header", "main", "footer"} {
		if count[name] != 1 {
			t.Errorf("%d <%s>", count[name], name)
		}
	}
	if count["caption"] != count["table"] || count["table"] == 0 {
		t.Errorf("%d captions of %d tables", count["caption"], count["table"])
	}
	if n := strings.Count(text, "<title>"); n != count["picture"]+1 {
		t.Errorf("%d titles of %d pictures and a page", n, count["picture"])
	}
	if !strings.HasPrefix(text, "<!DOCTYPE html>\n<html lang=\"en\">") || strings.Count(text, "<desc>") == 0 {
		t.Error("no language, or no description")
	}
}

// Text can be read on its ground, in both themes (WCAG 2.1: 4.5 to 1), and a bar be seen (3 to 1).
func TestContrast(t *testing.T) {
	css, err := files.ReadFile("style.css")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, found := strings.Cut(string(css), "prefers-color-scheme: dark")
	if !found {
		t.Fatal("no dark theme")
	}
	for theme, text := range map[string]string{"light": light, "dark": dark[:strings.Index(dark, "body {")]} {
		colour := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(text, -1) {
			colour[m[1]] = luminance(t, m[2])
		}
		pairs := [][3]string{{"held", "card", "3"}, {"held", "window", "3"}, {"amber", "card", "3"}, {"critical", "card", "3"}, {"text", "window", "4.5"}}
		for _, name := range []string{"text", "soft", "link"} {
			pairs = append(pairs, [3]string{name, "card", "4.5"}, [3]string{name, "ground", "4.5"})
		}
		for _, name := range []string{"ok", "warning", "critical", "quiet"} {
			pairs = append(pairs, [3]string{name, name + "-ground", "4.5"}, [3]string{name, "card", "4.5"})
		}
		for _, p := range pairs {
			a, okA := colour[p[0]]
			b, okB := colour[p[1]]
			least, err := strconv.ParseFloat(p[2], 64)
			if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); !okA || !okB || err != nil || got < least {
				t.Errorf("%s: %s on %s: %.2f", theme, p[0], p[1], got)
			}
		}
	}
}

// luminance of a colour, as WCAG 2.1 defines it.
func luminance(t *testing.T, hex string) float64 {
	t.Helper()
	sum := 0.0
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(n) / 255
		if c <= 0.03928 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

// As many of everything as an overview can have is a page of a size that a telephone can load.
func TestMany(t *testing.T) {
	o := example()
	big := o.Sets[0]
	for i := range 30 {
		big.Volumes = append(big.Volumes, api.Snapshot{MountPoint: fmt.Sprintf("/srv/%d", i), Frozen: true})
		big.Writers = append(big.Writers, big.Writers[0])
	}
	o.Sets = nil
	for range 20 {
		o.Sets = append(o.Sets, big)
	}
	for range 100 {
		o.Pools, o.Policies = append(o.Pools, o.Pools[0]), append(o.Policies, o.Policies[0])
		o.Writers, o.Problems = append(o.Writers, o.Writers[0]), append(o.Problems, "x")
	}
	text := render(t, o, nil)
	if len(text) > 2<<20 || !strings.Contains(text, "fermata snapshot show --timeline draws all") || !strings.Contains(text, "fermata status shows all problems") {
		t.Errorf("%d bytes", len(text))
	}
}

// The daemon makes no HTML: the page is linked into the exporter alone.
func TestNotInTheDaemon(t *testing.T) {
	for program, want := range map[string]bool{"fermatad": false, "fermata-exporter": true} {
		out, err := exec.Command("go", "list", "-deps", "../../cmd/"+program).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, pkg := range []string{"html/template", "github.com/fermata-project/fermata/daemon/page"} {
			if got := slices.Contains(strings.Fields(string(out)), pkg); got != want {
				t.Errorf("%s: %s linked: %v", program, pkg, got)
			}
		}
	}
}

// A policy without any set is late when its schedule would have made one since its file was written.
func TestLate(t *testing.T) {
	day := 24 * time.Hour
	for _, c := range []struct {
		name string
		p    api.Policy
		late string
	}{
		{"new", api.Policy{Interval: 30 * day, Changed: noon.Add(-32 * day)}, ""},
		{"never", api.Policy{Interval: 30 * day, Changed: noon.Add(-34 * day)}, "34d 0h"},
		{"edited since", api.Policy{Interval: day, Changed: noon.Add(-time.Hour), Last: noon.Add(-3 * day)}, "3d 0h"},
		{"in time", api.Policy{Interval: day, Changed: noon.Add(-30 * day), Last: noon.Add(-day)}, ""},
		{"without a schedule", api.Policy{Changed: noon.Add(-30 * day)}, ""},
	} {
		c.p.Name = "p"
		got := warningsOf(&api.Overview{Time: noon, PoolsSeen: noon, Policies: []api.Policy{c.p}}, nil, noon)
		if c.late == "" && len(got) > 0 || c.late != "" && (len(got) != 1 || !strings.Contains(got[0].Text, "younger than "+c.late)) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
