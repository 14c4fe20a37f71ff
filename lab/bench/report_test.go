package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRank(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, test := range []struct {
		list []int64
		p    int
		want int64
	}{
		{[]int64{7}, 50, 7}, {[]int64{7}, 99, 7},
		{[]int64{1, 2}, 50, 1}, {[]int64{1, 2, 3}, 50, 2}, {[]int64{1, 2, 3}, 99, 3},
		{hundred, 50, 50}, {hundred, 99, 99},
	} {
		if got := rank(test.list, test.p); got != test.want {
			t.Errorf("rank %d of %d values is %d, want %d", test.p, len(test.list), got, test.want)
		}
	}
}

func reportOf(ms map[string][2]int) *report {
	r := newReport()
	for name, m := range ms {
		r.add("thin", name, 8, sample{window: time.Duration(m[0]) * time.Millisecond, whole: time.Duration(m[1]) * time.Millisecond})
	}
	return r
}

func TestBars(t *testing.T) {
	for _, test := range []struct {
		name   string
		ms     map[string][2]int
		missed []string
	}{
		{"all met", map[string][2]int{floorInTurn: {9, 0}, floorTogether: {4, 0}, "fermata": {6, 90}, "classic": {1200, 0}, "lvcreate": {0, 90}}, nil},
		{"the lower floor counts", map[string][2]int{floorInTurn: {2, 0}, floorTogether: {4, 0}, "fermata": {6, 90}, "lvcreate": {0, 90}}, []string{"3.00 × the floor"}},
		{"classic too near", map[string][2]int{floorInTurn: {6, 0}, "fermata": {6, 0}, "classic": {1199, 0}}, []string{"200 × shorter"}},
		{"slow in all", map[string][2]int{floorInTurn: {6, 0}, "fermata": {6, 91}, "lvcreate": {0, 90}}, []string{"1.01 × the time"}},
		{"no rivals", map[string][2]int{"fermata": {6, 91}}, nil},
	} {
		got := reportOf(test.ms).missed()
		ok := len(got) == len(test.missed)
		for i, part := range test.missed {
			ok = ok && strings.Contains(got[i], part)
		}
		if !ok {
			t.Errorf("%s: warned %q, want %q", test.name, got, test.missed)
		}
	}
}

func TestOutput(t *testing.T) {
	r := reportOf(map[string][2]int{floorInTurn: {5, 0}, "fermata": {6, 90}, "lvcreate": {0, 90}})
	line, err := r.json()
	if err != nil || strings.Contains(line, "\n") {
		t.Fatalf("not one line: %q, %v", line, err)
	}
	var back report
	if err := json.Unmarshal([]byte(line), &back); err != nil {
		t.Fatal(err)
	}
	if w := back.row("thin", "fermata", 8); w.Window.Median != 6e6 || w.WindowToFloor != 1.2 || w.WholeToLvcreate != 1 {
		t.Errorf("fermata is %+v", w)
	}
	if table := r.table(); !strings.Contains(table, "6.000") || !strings.Contains(table, "1.20") {
		t.Errorf("the table lacks figures:\n%s", table)
	}
}

func TestStall(t *testing.T) {
	r := newReport()
	for _, add := range []struct {
		provider, contender string
		stall               time.Duration
	}{{"thick", "fermata", 0}, {"thick", "fermata", 30}, {"thick", "fermata", 10}, {"thick", "lvcreate", 20}, {"thin", "lvcreate", 5}, {"dm", "fermata", 90}, {"dm", "nothing", 1}} {
		s := sample{stall: add.stall * time.Millisecond}
		if s.stall == 0 {
			s.window = time.Millisecond
		}
		r.add(add.provider, add.contender, 1, s)
	}
	if got := r.missed(); len(got) != 0 { // 10 against 20, and dm has nothing beside it
		t.Errorf("warned %q", got)
	}
	w := r.row("thick", "fermata", 1)
	if w.Rounds != 1 || w.StallRounds != 2 || w.Stall.Median != 10e6 || w.Stall.Max != 30e6 || w.StallToLvcreate != 0.5 {
		t.Errorf("thick is %+v", w)
	}
	r.add("thick", "fermata", 1, sample{stall: 40 * time.Millisecond})
	if got := r.missed(); len(got) != 1 || !strings.Contains(got[0], "thick stalls 1.50 ×") {
		t.Errorf("warned %q", got)
	}
	if r.Rows[0].Provider != "thin" || r.Rows[len(r.Rows)-1].Contender != "nothing" {
		t.Errorf("the rows are not in the order of the providers: %s", r.table())
	}
}

func TestInterleave(t *testing.T) {
	var got []int
	for _, turn := range interleave([]turn{{volumes: 1, times: 4}, {volumes: 2, times: 2}, {volumes: 3, times: 1}}) {
		got = append(got, turn.volumes)
	}
	if want := []int{1, 2, 1, 3, 1, 2, 1}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestSurvivesClassic(t *testing.T) {
	for release, want := range map[string]bool{"5.10.46": false, "6.1.176": false, "6.7.9": false, "6.8.0": true, "6.12.101": true, "7.0": true, "": false, "x": false} {
		if got := survivesClassic(release); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
}

func TestSizes(t *testing.T) {
	if got, err := parseSizes("1,8"); err != nil || !slices.Equal(got, []int{1, 8}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "0", "9", "1,", "x"} {
		if _, err := parseSizes(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestLatencies(t *testing.T) {
	writes, longest, err := latencies(strings.NewReader("1, 123456, 1, 4096, 0, 0\n3, 98765432, 1, 4096, 4096, 0\n9, 7, 1, 4096, 8192, 0\n"))
	if writes != 3 || longest != 98765432*time.Nanosecond || err != nil {
		t.Errorf("%d writes, longest %v, %v", writes, longest, err)
	}
	for _, bad := range []string{"1, 2\n", "1, x, 1\n", "\n"} {
		if _, _, err := latencies(strings.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "line 1") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
