package inside

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestParseAt(t *testing.T) {
	for _, tt := range []struct {
		args    []string
		point   string
		command int // words
		ok      bool
	}{
		{[]string{"list", "--", "true"}, "", 1, true},
		{[]string{"window:doing", "cut", "--", "sh", "-c", "--"}, "window:doing", 3, true},
		{[]string{"7", "KILL", "fermatad", "--", "true"}, "7", 1, true},
		{[]string{"window:suspend:2:before", "KILL", "fermatad", "fermata-guard", "--", "true"}, "window:suspend:2:before", 1, true},
		{[]string{"7", "NOSUCH", "fermatad", "--", "true"}, "", 0, false},
		{[]string{"7", "cut", "--"}, "", 0, false},
		{[]string{"7", "cut", "true"}, "", 0, false},
		{[]string{"7", "--", "true"}, "", 0, false},
		{nil, "", 0, false},
	} {
		w, command, err := parseAt(tt.args)
		if (err == nil) != tt.ok || w.point != tt.point || len(command) != tt.command {
			t.Errorf("%q: got %q, %q, %v", tt.args, w.point, command, err)
		}
	}
}

func TestRecords(t *testing.T) {
	const doing = `01234567 {"seq":1,"time":"2026-11-21T00:00:00Z","step":"window","state":"doing","data":{"step":"x","state":"y"}}` + "\n"
	const done = `01234567 {"seq":2,"time":"2026-11-21T00:00:00Z","step":"window","state":"done"}` + "\n"
	refused := errors.New("refused")
	for _, tt := range []struct {
		point string
		at    int // the record that is the point; 0: none
	}{{"window:doing", 1}, {"window:done", 2}, {"2", 2}, {"3", 0}, {"verify:doing", 0}} {
		acted := 0
		w := watch{point: tt.point, act: func() error { acted++; return refused }}
		at := 0
		for i, line := range []string{doing, done} {
			if w.record(line, 0) {
				at = i + 1
				break
			}
		}
		if at != tt.at || w.reached != (at > 0) || acted != min(at, 1) || (w.failed != nil) != (at > 0) {
			t.Errorf("%s: acted %d times, at record %d, want %d (%+v)", tt.point, acted, at, tt.at, w)
		}
	}
}

// A point that fermatad has passed by is not one where it dies.
func TestLate(t *testing.T) {
	const doing, done, verify = `01234567 {"seq":1,"step":"thaw","state":"doing"}` + "\n", `01234567 {"seq":2,"step":"thaw","state":"done"}` + "\n", `01234567 {"seq":3,"step":"verify"`
	for _, tt := range []struct {
		texts []string // of the journal, as it grows
		late  int
	}{
		{[]string{doing}, 0},
		{[]string{doing[:20], doing + verify}, 0},
		{[]string{doing + done}, 1},
		{[]string{"", doing + done + done + verify}, 2},
	} {
		acted := 0
		w := watch{point: "thaw:doing", act: func() error { acted++; return nil }, known: map[string]int{}}
		met := false
		for _, text := range tt.texts {
			met = met || w.read("j", text)
		}
		if !met || w.late != tt.late || w.reached != (tt.late == 0) || acted != map[bool]int{true: 1}[tt.late == 0] {
			t.Errorf("%q: met %v, acted %d times, %+v", tt.texts, met, acted, w)
		}
	}
}

// Tracing begins at the record that announces the freeze, for a point that comes after it, and for a list of all points.
func TestHolding(t *testing.T) {
	const doing = `01234567 {"seq":1,"time":"2026-11-21T00:00:00Z","step":"window","state":"doing"}` + "\n"
	for point, traced := range map[string]bool{"": true, "window:freeze:1:before": true, "window:done": false, "probe:freeze:1:before": false, "7": false} {
		w := watch{point: point, act: func() error { return nil }}
		w.record(doing, 0)
		if w.holding != "" != traced {
			t.Errorf("%s: holding %q", point, w.holding)
		}
		if hit := w.ioctl("freeze:1:before"); hit != (point == "window:freeze:1:before") || hit != w.reached {
			t.Errorf("%s: %v, %+v", point, hit, w)
		}
	}
}

func TestInterrupted(t *testing.T) {
	for answer, want := range map[int64]bool{0: false, 1: false, -4: true, -16: false, -22: false, -512: true, -516: true, -517: false} {
		if interrupted(answer) != want {
			t.Errorf("answer %d: %v", answer, !want)
		}
	}
}

// A child that has not begun to be another program has its parent's name.
func TestWithoutChildren(t *testing.T) {
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { c.Process.Kill(); c.Wait() }()
	self, child := os.Getpid(), c.Process.Pid
	for _, test := range []struct{ pids, want []int }{{[]int{self, child}, []int{self}}, {[]int{child}, []int{child}}, {nil, nil}} {
		if got := withoutChildren(test.pids); !slices.Equal(got, test.want) {
			t.Errorf("of %v it leaves %v", test.pids, got)
		}
	}
}
