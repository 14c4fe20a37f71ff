//go:build lab

package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// The crash matrix: at every point of a set, each of these befalls the daemon or the guard. What is held then is released
// in time, seen from outside; nothing half-made is left; the set that was finished before is there; another can be taken.
//
// The points are enumerated from a set that nothing befalls: each record of its journal, and each ioctl that changes
// something between the records of the steps that hold something, before it and after it. So there is no step without its
// cases.
//
// FERMATA_MATRIX=full runs all of it; 1/5 to 5/5 run one fault at each point, and together all of it. Otherwise every point of
// provider thin has two faults that kill, and a sample is run of the rest and of another kind, whose turn it is
// (FERMATA_MATRIX_SEED is the day, unless given). FERMATA_MATRIX_KINDS chooses kinds of sets.
func TestCrashMatrix(t *testing.T) {
	part, seed := os.Getenv("FERMATA_MATRIX"), seedOf(t)
	kinds := chosenKinds(t, part != "", seed)
	var total score
	for i, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			s := prepareStage(t, k)
			cases := s.cases()
			if part == "" {
				cases = sample(cases, seed, i == 0)
			} else {
				cases = partOf(t, cases, part)
			}
			for _, c := range cases {
				s.play(t, c)
			}
			s.another(t)
			t.Log(s.took)
			s.score.print(strings.TrimSpace(release(t) + ", " + k.name + " " + part))
			total.add(s.score)
		})
	}
	total.print(fmt.Sprintf("%s, seed %d, in all", release(t), seed))
}

// freezeLimit is the guard's deadline where a fault is a daemon that stands still.
const freezeLimit = 3 * time.Second

// policy is what a set is taken by that the fault befalls.
func (f fault) policy() string {
	if f.signal == "STOP" {
		return "brief"
	}
	return "matrix"
}

// fault is what befalls somebody, and how long the filesystems may then stay blocked.
type fault struct {
	name     string
	signal   string
	programs []string
	// dies: the daemon does, and a set that is not finished by then is gone.
	dies   bool
	within time.Duration
}

var faults = []fault{
	{"daemon killed", "KILL", []string{"fermatad"}, true, time.Second},
	{"daemon and its children killed", "KILL", []string{"fermatad.service"}, true, time.Second},
	{"daemon and guard killed", "KILL", []string{"fermatad", "fermata-guard"}, true, 3 * time.Second},
	{"guard killed", "KILL", []string{"fermata-guard"}, false, time.Second},
	{"daemon stopped", "STOP", []string{"fermatad"}, false, freezeLimit + time.Second},
}

// kind is a kind of sets that faults befall.
type kind struct {
	name   string
	setUp  func(t *testing.T) (points []string)
	writer string // what its writer does, beside what is asked of it
	keys   string // of its writer's file, lines
}

var setKinds = []kind{
	{name: "thin", setUp: func(t *testing.T) []string { return points(thinVolumes(t, 2)) }},
	{name: "thick", setUp: func(t *testing.T) []string {
		thinVolumes(t, 0)
		return []string{thickVolume(t, "k", "64m", "ext4").Point}
	}},
	{name: "dm", setUp: func(t *testing.T) []string {
		labtest.CheckClean(t)
		return []string{dmVolume(t, "plain", 64).Point}
	}},
	{name: "plug-in", setUp: func(t *testing.T) []string {
		labtest.CheckClean(t)
		store := arrayVolume(t)
		configure(t, map[string]string{"providers.d/array.yaml": "type: plugin\ncommand: [" + shipped + "array, --store, " + store + "]\n"})
		return []string{"/srv/lun"}
	}},
	{name: "mixed", setUp: func(t *testing.T) []string {
		vols := thinVolumes(t, 1)
		return append(points(vols), thickVolume(t, "x", "320m", "xfs").Point, dmVolume(t, "plain", 64).Point)
	}},
	// Its writer lets go early: what is done is undone again, at points of its own.
	{name: "undone", setUp: func(t *testing.T) []string { return points(thinVolumes(t, 1)) }, writer: ", --exit-at, hold"},
	// Its writer recovers its data, for a while: the snapshots are mounted where only its program sees them.
	{name: "recover", setUp: func(t *testing.T) []string { return points(thinVolumes(t, 2)) },
		writer: ", --delay, 300ms, --delay-at, recover", keys: "recover: true\n"},
}

func seedOf(t *testing.T) uint64 {
	v := os.Getenv("FERMATA_MATRIX_SEED")
	if v == "" {
		return uint64(time.Now().Unix() / (24 * 60 * 60))
	}
	seed, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return seed
}

// chosenKinds are those that are named, all, or thin and the one whose turn it is.
func chosenKinds(t *testing.T, full bool, seed uint64) []kind {
	names := strings.Fields(strings.ReplaceAll(os.Getenv("FERMATA_MATRIX_KINDS"), ",", " "))
	switch {
	case len(names) > 0:
	case full:
		return setKinds
	default:
		return []kind{setKinds[0], setKinds[1+seed%uint64(len(setKinds)-1)]}
	}
	var chosen []kind
	for _, name := range names {
		i := slices.IndexFunc(setKinds, func(k kind) bool { return k.name == name })
		if i < 0 {
			t.Fatalf("there is no kind %q", name)
		}
		chosen = append(chosen, setKinds[i])
	}
	return chosen
}

// matrixCase is one fault at one point.
type matrixCase struct {
	point string
	fault fault
	kept  bool // the set is finished there
	// after the requester has begun, the fault comes, at no point that has a name; 0: at the point.
	after time.Duration
}

// partOf is all, or the part N of as many as there are faults, written N/5: one fault at each point, another at the next.
func partOf(t *testing.T, all []matrixCase, part string) []matrixCase {
	t.Helper()
	if part == "full" {
		return all
	}
	text, _ := strings.CutSuffix(part, fmt.Sprintf("/%d", len(faults)))
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > len(faults) {
		t.Fatalf("FERMATA_MATRIX=%s is neither full nor one of 1/%d to %d/%d", part, len(faults), len(faults), len(faults))
	}
	var chosen []matrixCase
	point, turn := "", n
	for _, c := range all {
		if c.point != point {
			point = c.point
			turn++
		}
		if c.fault.name == faults[turn%len(faults)].name {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// sample is, if each is said, two faults that kill at each point: of the daemon, and of the guard. The daemon dies alone at one
// and with its children at the next, which is the same to whoever releases; the guard dies with the daemon at two, and
// alone at the two after them. The next day they have moved on, and after four days each was everywhere. And some of the rest.
func sample(all []matrixCase, seed uint64, each bool) []matrixCase {
	random := rand.New(rand.NewPCG(seed, 0))
	var chosen, rest []matrixCase
	point, n := "", seed
	for _, c := range all {
		if c.point != point {
			point = c.point
			n++
		}
		if left := []string{faults[n%2].name, faults[2+n/2%2].name}; each && c.fault.signal == "KILL" && !slices.Contains(left, c.fault.name) {
			chosen = append(chosen, c)
		} else {
			rest = append(rest, c)
		}
	}
	random.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	return append(chosen, rest[:min(len(rest), sampled)]...)
}

// sampled is how many of the rest that is.
const sampled = 4

// cases are all faults at all points. A stopped daemon stops after a system call, not before it.
func (s *stage) cases() []matrixCase {
	finished := slices.Index(s.points, "finalise:done")
	var all []matrixCase
	for i, p := range s.points {
		for _, f := range faults {
			if f.signal != "STOP" || !strings.HasSuffix(p, ":before") {
				all = append(all, matrixCase{point: p, fault: f, kept: finished >= 0 && i >= finished})
			}
		}
	}
	return all
}

// stage is a kind of sets set up, and a load on its filesystems.
type stage struct {
	kind
	mounts []string
	points []string
	old    string // the set that was finished before
	load   *load
	clean  labtest.State
	score  score
	took   laps
}

func prepareStage(t *testing.T, k kind) *stage {
	t.Helper()
	withoutUdev(t)
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	s := &stage{kind: k, mounts: k.setUp(t)}
	configure(t, map[string]string{
		"policies.d/plain.yaml":  "volumes: [" + strings.Join(s.mounts, ", ") + "]\n",
		"policies.d/matrix.yaml": "volumes: [" + strings.Join(s.mounts, ", ") + "]\nwriters: [w]\n",
		"policies.d/brief.yaml":  fmt.Sprintf("volumes: [%s]\nwriters: [w]\nlimits: {freeze: %v}\n", strings.Join(s.mounts, ", "), freezeLimit),
		"writers.d/w.yaml":       "session: [/usr/bin/fermata-writer, test" + k.writer + "]\n" + k.keys,
	})
	s.old = create(t, "--policy", "plain").ID
	s.points = enumerate(t, "--policy", "matrix")
	for _, m := range sets(t) {
		if m.ID != s.old {
			must(t, "snapshot", "delete", m.ID)
		}
	}
	t.Logf("%d points: %s", len(s.points), strings.Join(s.points, " "))
	s.clean = labtest.Look(t)
	s.load = startLoad(t, s.mounts)
	return s
}

// enumerate takes a set and names its points, in order.
func enumerate(t *testing.T, what ...string) []string {
	t.Helper()
	out, err := exec.Command(os.Getenv("LAB"), append([]string{"at", "list", "--", "fermata", "snapshot", "create", "-q"}, what...)...).CombinedOutput()
	var names []string
	count := map[string]int{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) != 2 || !strings.Contains(f[1], ":") {
			continue // the set's id
		}
		names = append(names, f[1])
		if p := strings.Split(f[1], ":"); len(p) == 4 && p[3] == "after" {
			count[p[0]+" "+p[1]]++
		}
	}
	for _, step := range []string{"probe", "window"} {
		if count[step+" freeze"] == 0 || count[step+" freeze"] != count[step+" thaw"] || count[step+" suspend"] > count[step+" resume"] {
			t.Fatalf("these cannot be all points: %v (%v)\n%s\n%s", names, err, out, journal(t))
		}
	}
	return names
}

// score is how cases ended.
type score struct {
	cases, failed int
	worst         map[string]time.Duration // until everything was released, by fault
}

func (s *score) add(o score) {
	s.cases, s.failed = s.cases+o.cases, s.failed+o.failed
	for name, d := range o.worst {
		s.released(name, d)
	}
}

func (s *score) released(name string, d time.Duration) {
	if s.worst == nil {
		s.worst = map[string]time.Duration{}
	}
	s.worst[name] = max(s.worst[name], d)
}

func (s *score) print(what string) {
	var worst []string
	for _, f := range faults {
		if d, ok := s.worst[f.name]; ok {
			worst = append(worst, fmt.Sprintf("%s %v", f.name, d.Round(time.Millisecond)))
		}
	}
	fmt.Printf("note: crash matrix, Linux %s: %d cases, %d failed; longest until released: %s\n", what, s.cases, s.failed, strings.Join(worst, ", "))
}
