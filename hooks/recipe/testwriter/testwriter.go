// Package testwriter is the writer that misbehaves on request: it fails, hangs,
// exits, lies or talks out of turn at a chosen phase. It is how one sees what a
// set does when an application does not keep its word.
//
// It speaks the session's lines itself, not by package recipe, for a recipe
// cannot break the grammar.
package testwriter

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// Hold is, beside the phases, a moment at which the test writer can misbehave:
// half of Options.Delay, at least 10 ms, after the answer to freeze. A writer
// that does so hears nothing until then, so that no short hold escapes it.
const Hold hooks.Phase = "hold"

// Options say how to misbehave, and when; each lists phases.
type Options struct {
	FailAt    []string      // answer with an error
	HangAt    []string      // do not answer, and ignore SIGTERM
	ExitAt    []string      // exit with status 1 instead of an answer
	LieAt     []string      // answer ok though it does not hold, or let go; admit it at thaw
	GarbageAt []string      // answer outside the grammar
	TwiceAt   []string      // answer twice
	MuteAt    []string      // close standard output and live on
	Inactive  bool          // answer prepare with inactive
	Delay     time.Duration // wait before each answer
	DelayAt   []string      // wait at these phases only; empty: at each
}

// validate checks the names of the phases.
func (o Options) validate() error {
	for _, list := range [][]string{o.FailAt, o.HangAt, o.ExitAt, o.LieAt, o.GarbageAt, o.TwiceAt, o.MuteAt, o.DelayAt} {
		for _, at := range list {
			if at != string(Hold) && !slices.Contains(slices.Concat(hooks.Phases, hooks.Asides), hooks.Phase(at)) {
				return fmt.Errorf("unknown phase %q: use prepare, freeze, hold, thaw, abort, post, recover, verify or report", at)
			}
		}
	}
	return nil
}

// act is what is done at a moment.
type act int

const (
	answer act = iota
	fail
	hang
	exit
	lie
	garbage
	twice
	mute
)

// at decides what is done at phase.
func (o Options) at(phase hooks.Phase) act {
	for _, choice := range []struct {
		list []string
		act  act
	}{
		{o.FailAt, fail}, {o.HangAt, hang}, {o.ExitAt, exit}, {o.LieAt, lie},
		{o.GarbageAt, garbage}, {o.TwiceAt, twice}, {o.MuteAt, mute},
	} {
		if slices.Contains(choice.list, string(phase)) {
			return choice.act
		}
	}
	return answer
}

// Exited is the error by which Serve asks for exit status 1.
type Exited struct{ At hooks.Phase }

func (e *Exited) Error() string { return "told to exit at " + string(e.At) }

// Serve answers requests as o says, until in ends.
func Serve(ctx context.Context, in io.Reader, out io.WriteCloser, o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- s.Text()
		}
	}()
	w := &writer{Options: o, out: out}
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			request, err := hooks.ParseRequest(line)
			if err != nil {
				return err
			}
			if len(o.DelayAt) == 0 || slices.Contains(o.DelayAt, string(request.Phase)) {
				time.Sleep(o.Delay)
			}
			if err := w.do(request); err != nil {
				return err
			}
			if request.Phase != hooks.PhaseFreeze || w.at(Hold) == answer {
				continue
			}
			time.Sleep(max(o.Delay/2, 10*time.Millisecond))
			if err := w.do(hooks.Request{Phase: Hold}); err != nil {
				return err
			}
		}
	}
}

// writer is one session.
type writer struct {
	Options
	out  io.WriteCloser
	lied bool
}

func (w *writer) say(lines ...string) error {
	_, err := io.WriteString(w.out, strings.Join(lines, "\n")+"\n")
	return err
}

// do behaves, or misbehaves, at one moment.
func (w *writer) do(r hooks.Request) error {
	switch act := w.at(r.Phase); act {
	case fail:
		return w.say("error told to fail at " + string(r.Phase))
	case hang:
		for {
			time.Sleep(time.Hour)
		}
	case exit:
		fmt.Fprintln(os.Stderr, "told to exit at", r.Phase)
		return &Exited{r.Phase}
	case garbage:
		return w.say("maybe")
	case twice:
		return w.say(w.honest(r), w.honest(r))
	case mute:
		return w.out.Close()
	default:
		w.lied = w.lied || act == lie
		if r.Phase == Hold {
			return nil
		}
		return w.say(w.honest(r))
	}
}

// honest is the answer of a writer that does its part, or that owns up at thaw.
func (w *writer) honest(r hooks.Request) string {
	switch {
	case r.Phase == hooks.PhasePrepare && w.Inactive:
		return "inactive told to be"
	case r.Phase == hooks.PhasePrepare:
		return fmt.Sprintf(`ok {"writer":"test","set":%q}`, r.Set)
	case r.Phase == hooks.PhaseThaw && w.lied:
		return "lost told to lie: it did not hold"
	}
	return "ok"
}
