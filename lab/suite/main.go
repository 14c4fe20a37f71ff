// Command suite runs all tests of Fermata: those of the host, and those that need a real kernel, in guests of the lab, on
// every kernel. It is what make test runs. A lab that is missing is a failure; a test that is skipped is counted and
// named.
//
//	go run ./lab/suite [-all | -only NAME] [-list]
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// lanes is how many guests run side by side. A guest has one processor.
const lanes = 2

func main() {
	only := flag.String("only", "", "run only the stage of this name, or those whose names contain it")
	all := flag.Bool("all", false, "run the stages whose turn it is on another day, too")
	list := flag.Bool("list", false, "list the stages")
	flag.Parse()
	chosen := choose(*only, *all, time.Now())
	if *list {
		for _, s := range chosen {
			fmt.Println(s.name)
		}
		return
	}
	lab, cleanup, err := buildLab()
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(1)
	}
	ok := run(chosen, lab)
	cleanup()
	if !ok {
		os.Exit(1)
	}
}

// choose returns the stages of one run.
func choose(only string, all bool, now time.Time) []stage {
	keep := func(is func(s stage) bool) []stage {
		return slices.DeleteFunc(slices.Clone(stages), func(s stage) bool { return !is(s) })
	}
	switch named := keep(func(s stage) bool { return s.name == only }); {
	case len(named) > 0:
		return named
	case only != "":
		return keep(func(s stage) bool { return strings.Contains(s.name, only) })
	default:
		return keep(func(s stage) bool { return all || s.turn == 0 || s.turn == today(now) })
	}
}

// buildLab builds the lab once for all stages.
func buildLab() (path string, cleanup func(), err error) {
	dir, err := os.MkdirTemp("", "fermata-suite-")
	if err != nil {
		return "", nil, err
	}
	cleanup = func() { os.RemoveAll(dir) }
	path = filepath.Join(dir, "lab")
	c := exec.Command("go", "build", "-o", path, "./lab")
	c.Stderr = os.Stderr
	if err := c.Run(); err != nil {
		cleanup()
		return "", nil, fmt.Errorf("cannot build the lab: %w", err)
	}
	return path, cleanup, nil
}

// run runs stages: those that want the machine for themselves first, one after the other, the rest side by side.
func run(chosen []stage, lab string) bool {
	began := time.Now()
	var mu sync.Mutex
	var total tally
	report := func(s stage, t tally, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		total.add(t)
		verdict := "ok  "
		if !t.ok() {
			verdict = "FAIL"
		}
		if !t.ok() || len(t.unsteady) > 0 {
			fmt.Print(t.output())
		}
		fmt.Printf("%s  %-28s %4d passed, %d failed, %d skipped  %6.1fs\n", verdict, s.name, t.passed, len(t.failed), len(t.skipped), took.Seconds())
		fmt.Println("      slowest: " + t.slowest(5))
		for _, note := range t.notes {
			fmt.Println("      " + note)
		}
	}
	do := func(s stage) {
		begin := time.Now()
		t := s.run(lab)
		report(s, t, time.Since(begin))
	}
	var queue []stage
	for _, s := range chosen {
		if s.alone {
			do(s)
		} else {
			queue = append(queue, s)
		}
	}
	var wg sync.WaitGroup
	next := make(chan stage)
	for range lanes {
		wg.Go(func() {
			for s := range next {
				do(s)
			}
		})
	}
	for _, s := range queue {
		next <- s
	}
	close(next)
	wg.Wait()
	for _, name := range total.skipped {
		fmt.Println("skipped:", name)
	}
	for _, name := range total.unsteady {
		fmt.Println("unsteady: it failed, and passed when it was run again:", name)
	}
	fmt.Printf("took %v\n", time.Since(began).Round(time.Second))
	fmt.Printf("%d passed, %d failed, %d skipped\n", total.passed, len(total.failed), len(total.skipped))
	return total.ok() && total.passed > 0
}
