package daemon

import (
	"errors"
	"fmt"
	"slices"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/hooks"
)

// evidence is what was observed of a hold. The verdict on it decides whether the set may exist.
type evidence struct {
	thaw      []error      // of each filesystem that could not be thawed as ours
	ended     guard.Reason // who ended the hold
	report    guard.Report
	guardErr  error
	holding   error   // what the writers' holds were at the instant of the capture
	writes    []wrote // devices that were written between freeze and capture
	counters  []error // write counters that could not be read
	providers []error // what the providers found afterwards
}

// clean reports whether nothing has spoken against the hold so far, as far as it can be known before the writers thaw.
func (e *evidence) clean() bool {
	return len(e.thaw) == 0 && e.guardErr == nil && e.holding == nil && (e.ended == guard.Open || e.ended == guard.Closed)
}

// wrote is a device whose write counter moved while its filesystem was frozen.
type wrote struct {
	volume        string
	before, after dm.Writes
}

// counted takes down what a device's write counter showed.
func (e *evidence) counted(c *counter) {
	switch {
	case c.err != nil:
		e.counters = append(e.counters, fmt.Errorf("cannot tell whether %s was written: %w", c.volume, c.err))
	case c.before != c.after:
		e.writes = append(e.writes, wrote{c.volume, c.before, c.after})
	}
}

// verdict is nil if the hold was real: every thaw found its filesystem still frozen, every writer was still holding at
// the instant, the guard did not have to release anything, and nothing reached an origin between freeze and capture.
// Otherwise the set must not exist; the error says why, and whether a retry can help.
func (e *evidence) verdict() error {
	var errs []error
	for _, err := range e.thaw {
		if errors.Is(err, fsfreeze.ErrThawed) {
			err = api.Errorf(api.Broken, "the hold was broken: %w", err)
		}
		errs = append(errs, err)
	}
	switch {
	case e.guardErr != nil:
		errs = append(errs, api.Errorf(api.Broken, "the hold cannot be proven: %w", e.guardErr))
	case e.ended == guard.Deadline:
		errs = append(errs, api.Errorf(api.Timeout, "the freeze took too long: the guard released %v", e.report.Released))
	case e.ended != guard.Closed:
		errs = append(errs, api.Errorf(api.Broken, "the guard ended the hold (%v) and released %v", e.ended, e.report.Released))
	}
	if e.holding != nil {
		errs = append(errs, api.Errorf(api.Broken, "a writer let go before the capture: %w", e.holding))
	}
	for _, w := range e.writes {
		errs = append(errs, api.Errorf(api.Broken, "the hold was broken: %s was written while frozen (%d sectors written, %d discarded)", w.volume,
			w.after.Written-w.before.Written, w.after.Discarded-w.before.Discarded))
	}
	for _, err := range e.counters {
		errs = append(errs, api.Errorf(api.Broken, "the hold cannot be proven: %w", err))
	}
	for _, err := range e.providers {
		if errors.Is(err, provider.ErrResumed) {
			err = api.Errorf(api.Broken, "the hold was broken: %w", err)
		}
		errs = append(errs, classed(api.Failed, err))
	}
	return errors.Join(errs...)
}

// claim is the consistency that a set can claim whose hold was real, with the reasons why it is not more.
func claim(p plan, policy effective, writers map[string]hooks.State, failed []hooks.Reason) (api.Consistency, []string) {
	got := api.Application
	var reasons []string
	if len(policy.writers) == 0 {
		got = api.Filesystem
	}
	for _, f := range failed {
		got = api.Filesystem
		reasons = append(reasons, fmt.Sprintf("writer %s: %s", f.Writer, f))
	}
	for _, w := range policy.writers {
		if s := writers[w.Name]; len(failed) == 0 && s != hooks.StateReleased && s != hooks.StateInactive {
			got = api.Filesystem
			reasons = append(reasons, fmt.Sprintf("writer %s did not hold: it is %s", w.Name, s))
		}
	}
	held := func(name string) bool {
		return len(failed) == 0 && (writers[name] == hooks.StateReleased || writers[name] == hooks.StateInactive)
	}
	for _, m := range p.members {
		if m.unfrozen != "" && !slices.ContainsFunc(m.covered, held) {
			got = api.Crash
			reasons = append(reasons, fmt.Sprintf("%s was not frozen: %s", m.vol.Name, m.unfrozen))
		}
	}
	return got, reasons
}

// planned is the consistency that a set can claim if all goes well.
func planned(p plan, policy effective) (api.Consistency, []string) {
	all := map[string]hooks.State{}
	for _, w := range policy.writers {
		all[w.Name] = hooks.StateReleased
	}
	return claim(p, policy, all, nil)
}

// acceptable says whether the policy allows a set with the consistency that it got.
func acceptable(got api.Consistency, reasons []string, policy effective) error {
	if got.Rank() >= api.Consistency(policy.Consistency).Rank() {
		return nil
	}
	return api.Errorf(api.Failed, "cannot take a set of %s consistency, only %s: %v", policy.Consistency, got, reasons)
}
