package config

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what is found into the golden files of testdata")

// A golden file in testdata is a sequence of cases: "== what it shows", files as "-- NAME", the
// problems they give as "-- problems".
type goldenCase struct {
	title    string
	files    []goldenFile
	problems string
}

type goldenFile struct{ name, text string }

func readGolden(t *testing.T, name string) []goldenCase {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var cases []goldenCase
	for part := range strings.SplitSeq("\n"+string(data), "\n== ") {
		title, rest, found := strings.Cut(part, "\n")
		if !found || title == "" {
			continue
		}
		c := goldenCase{title: title}
		for section := range strings.SplitSeq("\n"+rest, "\n-- ") {
			name, text, found := strings.Cut(section, "\n")
			switch {
			case !found:
			case name == "problems":
				c.problems = strings.TrimRight(text, "\n")
			case name != "":
				c.files = append(c.files, goldenFile{name, text})
			}
		}
		cases = append(cases, c)
	}
	if len(cases) == 0 {
		t.Fatalf("%s: no cases", name)
	}
	return cases
}

func writeGolden(t *testing.T, name string, cases []goldenCase) {
	t.Helper()
	var b strings.Builder
	for _, c := range cases {
		b.WriteString("== " + c.title + "\n")
		for _, f := range c.files {
			b.WriteString("-- " + f.name + "\n" + strings.TrimRight(f.text, "\n") + "\n")
		}
		b.WriteString("-- problems\n" + c.problems + "\n\n")
	}
	if err := os.WriteFile(name, []byte(strings.TrimRight(b.String(), "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// in builds a configuration of files in memory, named as below /etc/fermata.
func in(files ...goldenFile) (*Config, error) {
	var found sources
	for _, f := range files {
		s := source{path: path.Join("/etc/fermata", f.name), data: []byte(f.text)}
		switch path.Dir(f.name) {
		case "policies.d":
			found.policies = append(found.policies, s)
		case "writers.d":
			found.writers = append(found.writers, s)
		case "providers.d":
			found.providers = append(found.providers, s)
		default:
			found.daemon = append(found.daemon, s)
		}
	}
	return build("/etc/fermata", found)
}

// TestProblems shows every problem that a file can have, with its line and column.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range files {
		cases := readGolden(t, name)
		for i, c := range cases {
			t.Run(filepath.Base(name)+"/"+c.title, func(t *testing.T) {
				config, err := in(c.files...)
				var problems Problems
				if config != nil {
					problems = config.Problems
				} else if !errors.As(err, &problems) {
					t.Fatalf("neither a configuration nor Problems: %v", err)
				}
				got := strings.ReplaceAll(problems.Error(), "/etc/fermata/", "")
				cases[i].problems = got
				if got != c.problems && !*update {
					t.Errorf("problems are\n%s\nwant\n%s", got, c.problems)
				}
			})
		}
		if *update {
			writeGolden(t, name, cases)
		}
	}
}

func TestLoadNothing(t *testing.T) {
	c, err := Load(filepath.Join(t.TempDir(), "missing"))
	if err != nil {
		t.Fatal(err)
	}
	if want := defaultDaemon(); !reflect.DeepEqual(c.Daemon, want) {
		t.Errorf("daemon is %+v, want %+v", c.Daemon, want)
	}
	if len(c.Policies)+len(c.Writers)+len(c.Problems) != 0 {
		t.Errorf("not empty: %+v", c)
	}
	thin, err := c.Provider("thin")
	want := Provider{Name: "thin", Enabled: true, Reserve: Reserve{Data: Space{Percent: 5}, Metadata: Space{Percent: 10}}}
	if err != nil || thin != want {
		t.Errorf("thin is %+v, %v, want %+v", thin, err, want)
	}
}

func TestValues(t *testing.T) {
	c, err := in(
		goldenFile{"fermata.yaml", `
state_directory: /srv/state/
mount_directory: /mnt/fermata
log_level: warn
limits: {freeze: 2s, writers: 30s, prepare: 1h, sets: 50}
preflush: {rounds: 7, until: 20ms}
idle_exit: 90s
pools: {data: {warning: 70%}, cow: {critical: 97.5%}}
metrics: {listen: "[::1]:9948", web_config: /etc/fermata/web.yaml}
`},
		goldenFile{"writers.d/pg.yaml", `
name: postgresql
session: [fermata-writer, postgresql, --port, 5433]
user: postgres
group: 26
environment: {PGPORT: 5433, PGAPPNAME: "", LANG: null-free}
level: system
required: false
timeouts: {prepare: 1m, freeze: 2s, thaw: 3s, abort: 4s, post: 1h, recover: 24h}
recover: true
components:
  - name: cluster
    paths: [/srv/db/, /srv/wal]
    excludes: ["*.pid"]
    log_files: [/var/log/pg.log]
    restore_method: put it back
`},
		goldenFile{"writers.d/web.yaml", "commands: {freeze: [/bin/hold], thaw: [/bin/let-go, '']}\nlevel: front-end\n"},
		goldenFile{"writers.d/nothing.yaml", "type: null\n"},
		goldenFile{"providers.d/thin.yaml", "reserve: {data: 2.5%, metadata: 64M}\n"},
		goldenFile{"providers.d/dm.yaml", "storage: /srv/store/\ncow: 200%used\nchunk: 64K\nreserve: {data: 1G}\n"},
		goldenFile{"policies.d/db.yaml", `
description: |
  The database,
  all of it
volumes: ["/srv//db", /dev/vg/wal]
writers: [postgresql, web]
provider: thin
consistency: filesystem
on_failure: degrade
limits: {freeze: 1s}
retry: {count: 2, wait: 1m}
schedule: {at: [daily, "*:0/15"], persistent: false, on_failure: alert@%n.service}
retention: {keep_last: 3, keep_daily: unlimited, keep_within: 1y2m3d4h, keep_labels: [a, b=1], minimum: 0, time_zone: Europe/Berlin}
labels: {tier: gold, example.org/owner: 7}
`},
		goldenFile{"policies.d/mixed.yaml", "volumes: [/srv, /home]\nprovider: {/srv: thin}\n"},
		goldenFile{"policies.d/plain.yaml", "volumes: [/srv]\nlimits:\n"},
	)
	if err != nil || len(c.Problems) != 0 {
		t.Fatalf("problems are %v, %v", c.Problems, err)
	}

	check := func(what string, got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s is\n%+v\nwant\n%+v", what, got, want)
		}
	}
	limits := Limits{Freeze: 2 * time.Second, Writers: 30 * time.Second, Prepare: time.Hour}
	check("daemon", c.Daemon, Daemon{
		StateDirectory: "/srv/state", MountDirectory: "/mnt/fermata", LogLevel: slog.LevelWarn,
		Limits:   DaemonLimits{limits, 50},
		Preflush: Preflush{7, 20 * time.Millisecond}, IdleExit: 90 * time.Second,
		Pools:   Pools{Data: Thresholds{70, 90}, Metadata: Thresholds{75, 90}, COW: Thresholds{80, 97.5}, Group: Thresholds{90, 97}, Acts: defaultPoolActs()},
		Metrics: Metrics{Listen: "[::1]:9948", WebConfig: "/etc/fermata/web.yaml"},
	})

	check("writers", slices.Sorted(maps.Keys(c.Writers)), []string{"nothing", "postgresql", "web"})
	check("postgresql", c.Writers["postgresql"], Writer{
		Name: "postgresql", Type: WriterExec, Session: []string{"fermata-writer", "postgresql", "--port", "5433"},
		User: "postgres", Group: "26", Level: LevelSystem, OnFailure: OnFailureDegrade,
		Environment: map[string]string{"PGPORT": "5433", "PGAPPNAME": "", "LANG": "null-free"},
		Timeouts: Timeouts{
			Prepare: time.Minute, Freeze: 2 * time.Second, Thaw: 3 * time.Second, Abort: 4 * time.Second, Post: time.Hour,
			Recover: 24 * time.Hour, Verify: time.Hour, Report: 5 * time.Minute,
		},
		Recover: true,
		Components: []Component{{
			Name: "cluster", Paths: []string{"/srv/db", "/srv/wal"}, Excludes: []string{"*.pid"},
			LogFiles: []string{"/var/log/pg.log"}, RestoreMethod: "put it back",
		}},
		File: "/etc/fermata/writers.d/pg.yaml",
	})
	web := defaultWriter("web")
	web.Commands = Commands{Freeze: []string{"/bin/hold"}, Thaw: []string{"/bin/let-go", ""}}
	web.Level, web.File = LevelFrontEnd, "/etc/fermata/writers.d/web.yaml"
	check("web", c.Writers["web"], web)
	check("nothing", c.Writers["nothing"].Type, WriterNull)

	check("dm", c.Providers["dm"], Provider{
		Name: "dm", Enabled: true, Reserve: Reserve{Data: Space{Size: 1 << 30}}, COW: COW{UsedPercent: 200},
		Storage: "/srv/store", Chunk: 64 << 10, File: "/etc/fermata/providers.d/dm.yaml",
	})
	check("thin", c.Providers["thin"], Provider{
		Name: "thin", Enabled: true, Reserve: Reserve{Data: Space{Percent: 2.5}, Metadata: Space{Size: 64 << 20}},
		File: "/etc/fermata/providers.d/thin.yaml",
	})

	check("mixed", c.Policies["mixed"].Providers, map[string]string{"/srv": "thin"})
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	kept := Retention{Last: 3, Daily: Unlimited, Within: Span{1, 2, 3, 4}, Labels: []string{"a", "b=1"}, Location: berlin}
	dbLimits := limits
	dbLimits.Freeze = time.Second
	check("db", c.Policies["db"], Policy{
		Name: "db", Description: "The database,\nall of it\n",
		Volumes: []string{"/srv/db", "/dev/vg/wal"}, Writers: []string{"postgresql", "web"}, Provider: "thin",
		Consistency: ConsistencyFilesystem, Method: MethodCopyOnWrite, OnFailure: OnFailureDegrade, Limits: dbLimits,
		Retry: Retry{2, time.Minute}, Schedule: Schedule{At: []string{"daily", "*:0/15"}, RandomizedDelay: 90 * time.Second, OnFailure: "alert@%n.service", Interval: 15 * time.Minute},
		Retention: kept, Labels: map[string]string{"tier": "gold", "example.org/owner": "7"},
		File: "/etc/fermata/policies.d/db.yaml",
	})
	check("plain", c.Policies["plain"], Policy{
		Name: "plain", Volumes: []string{"/srv"}, Consistency: ConsistencyFilesystem, Method: MethodCopyOnWrite, OnFailure: OnFailureAbort,
		Schedule: Schedule{Persistent: true},
		Limits:   limits, Retry: Retry{Wait: 10 * time.Second}, Retention: Retention{Minimum: 1}, File: "/etc/fermata/policies.d/plain.yaml",
	})
}

func TestConsistencyDefault(t *testing.T) {
	for text, want := range map[string]Consistency{
		"volumes: [/a]":                                     ConsistencyFilesystem,
		"volumes: [/a]\nwriters: []":                        ConsistencyFilesystem,
		"volumes: [/a]\nwriters: [w]":                       ConsistencyApplication,
		"volumes: [/a]\nwriters: [w]\nconsistency: crash":   ConsistencyCrash,
		"volumes: [/a]\nconsistency: filesystem":            ConsistencyFilesystem,
		"volumes: [/a]\nwriters: [w]\non_failure: abort":    ConsistencyApplication,
		"volumes: [/a]\nwriters: [w]\nretry: {count: 10}\n": ConsistencyApplication,
	} {
		c, err := in(goldenFile{"writers.d/w.yaml", "type: null"}, goldenFile{"policies.d/p.yaml", text})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := c.Policy("p"); err != nil || p.Consistency != want {
			t.Errorf("%q: %q, %v, want %q", text, p.Consistency, err, want)
		}
	}
}

func TestLookup(t *testing.T) {
	c, err := in(
		goldenFile{"policies.d/good.yaml", "volumes: [/a]"},
		goldenFile{"policies.d/bad.yaml", "volumes: [a]\nname: base\n"},
		goldenFile{"providers.d/thin.yaml", "reserve: {data: 101%}"},
	)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Policy("good"); err != nil {
		t.Error(err)
	}

	_, err = c.Policy("base")
	var problem Problem
	if !errors.Is(err, ErrDisabled) || errors.Is(err, ErrUnknown) || !errors.As(err, &problem) || problem.Line != 1 {
		t.Errorf("a disabled policy gives %v", err)
	}
	if want := `policy "base" is disabled: /etc/fermata/policies.d/bad.yaml:1:11: volumes[0]: "a" is not absolute: it must begin with /`; err.Error() != want {
		t.Errorf("a disabled policy gives\n%v\nwant\n%v", err, want)
	}
	if d := c.Disabled("policy"); len(d) != 1 || d["base"] != problem {
		t.Errorf("disabled are %v", d)
	}

	_, err = c.Policy("goood")
	if !errors.Is(err, ErrUnknown) || errors.Is(err, ErrDisabled) || err.Error() != `policy "goood" is unknown: did you mean "good"?` {
		t.Errorf("an unknown policy gives %v", err)
	}
	if _, err = c.Provider("thin"); !errors.Is(err, ErrDisabled) {
		t.Errorf("a bad provider gives %v", err)
	}
	if _, err = c.Writer("x"); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown writer gives %v", err)
	}

	literal := &Config{Policies: map[string]Policy{"p": {Name: "p"}}}
	if p, err := literal.Policy("p"); err != nil || p.Name != "p" {
		t.Errorf("a literal configuration gives %v, %v", p, err)
	}
}

func TestBadDaemonFile(t *testing.T) {
	c, err := in(goldenFile{"fermata.yaml", "limits: {freeze: 0s}"}, goldenFile{"policies.d/p.yaml", "volumes: []"})
	var problems Problems
	if c != nil || !errors.As(err, &problems) || len(problems) != 2 {
		t.Fatalf("got %v, %v", c, err)
	}
	var one Problem
	if !errors.As(err, &one) || one != problems[0] {
		t.Errorf("the error does not unwrap to a problem: %v", err)
	}
}

// TestLimits shows the limits whose examples would be too long for a golden file.
func TestLimits(t *testing.T) {
	many := func(format string, n int) string {
		items := make([]string, n)
		for i := range items {
			items[i] = fmt.Sprintf(format, i)
		}
		return strings.Join(items, ", ")
	}
	for want, text := range map[string]string{
		"":                            "volumes: [" + many("/v%d", 256) + "]\nlabels: {" + many("l%d: x", 64) + "}",
		"257 items are too many":      "volumes: [" + many("/v%d", 257) + "]",
		"65 keys are too many":        "volumes: [/a]\nlabels: {" + many("l%d: x", 65) + "}",
		"is too long: 1025 bytes":     "volumes: [/a]\ndescription: " + strings.Repeat("x", 1025),
		"contains a zero byte":        "volumes: [/a]\ndescription: \"a\\0b\"",
		"more than 200 problems":      "volumes: [/a]\nlabels: {" + many("l%d: []", 300) + "}",
		"at most 4095 bytes":          "volumes: [/" + strings.Repeat("x", 4095) + "]",
		"quote a text that begins so": "volumes: [/a]\ndescription: %x",
		`remove "&` + strings.Repeat("x", 59) + "…": "volumes: &" + strings.Repeat("x", 70) + " [/a]",
	} {
		c, err := in(goldenFile{"policies.d/p.yaml", text})
		if err != nil {
			t.Fatal(err)
		}
		got := c.Problems.Error()
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("problems are %s, want %q", got, want)
		}
		if len(c.Problems) > maxProblems+1 {
			t.Errorf("%d problems", len(c.Problems))
		}
	}
}

func TestPoolActs(t *testing.T) {
	c, err := in(goldenFile{"fermata.yaml", `
pools:
  only: [vg/pool]
  extend: {at: warning, by: 10G, limit: 1T, metadata_limit: 8G, reserve: 5%, spares: {vg: [/dev/sdx, /dev/sdy]}}
  delete: {dropped: critical, kept: exhausted}
  refuse: {at: critical, full_within: 4h, growth: 1.5}
  hook: [/usr/local/sbin/page, pool]
  hook_timeout: 1m
`})
	if err != nil || len(c.Problems) != 0 {
		t.Fatalf("problems are %v, %v", c.Problems, err)
	}
	want := PoolActs{
		Only: []string{"vg/pool"}, Hook: []string{"/usr/local/sbin/page", "pool"}, HookTimeout: time.Minute,
		Extend: PoolExtend{At: Warning, By: Space{Size: 10 << 30}, Limit: 1 << 40, MetadataLimit: 8 << 30, Reserve: Space{Percent: 5},
			Spares: map[string][]string{"vg": {"/dev/sdx", "/dev/sdy"}}},
		Delete: PoolDelete{Dropped: Critical, Kept: Exhausted},
		Refuse: PoolRefuse{At: Critical, Within: 4 * time.Hour, Growth: 1.5},
	}
	if got := c.Daemon.Pools.Acts; !reflect.DeepEqual(got, want) {
		t.Errorf("acts are\n%+v\nwant\n%+v", got, want)
	}
	if !want.Asked() || defaultPoolActs().Asked() {
		t.Error("by default something is done, or nothing although it was asked for")
	}
}
