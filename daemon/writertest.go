package daemon

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
)

// testHold is how long a writer has to hold in a test: about as long as in a set, so that one that lets go is caught.
const testHold = 200 * time.Millisecond

// testSteps are the phases of a set, as far as they concern a writer.
func (t *transaction) testSteps() []step {
	return []step{
		{name: "resolve", do: t.resolveTest},
		{name: "prepare-writers", do: t.prepareWriters, undo: t.abortWriters, data: t.asked},
		{name: "freeze-writers", do: t.freezeWriters, undo: t.thawWriters},
		{name: "hold", do: t.holdTest},
		{name: "thaw-writers", do: t.thawWriters},
	}
}

// TestWriter implements api.WriterTester. It takes a turn like a set: a writer cannot be in two.
func (d *Daemon) TestWriter(ctx context.Context, r api.WriterTestRequest, progress func(string)) (*api.WriterTest, error) {
	policy, err := d.testPolicy(r)
	if err != nil {
		return nil, err
	}
	release, err := d.turn.take(ctx, r.FailIfBusy)
	if err != nil {
		return nil, err
	}
	defer release()
	t := d.newTransaction(policy, progress)
	t.test = true
	end, err := t.begin()
	if err != nil {
		return nil, err
	}
	defer end()

	var after error
	if err = t.run(ctx, t.testSteps()); err == nil {
		d.turn.allow("the end of test "+t.id, t.longest())
		after = t.postWriters(context.WithoutCancel(ctx))
	}
	if rmErr := t.journal.Remove(); rmErr != nil || t.writers == nil || api.Of(err) == api.Cancelled {
		return nil, errors.Join(err, after, rmErr)
	}
	return t.tested(err, after), nil
}

// testPolicy is the effective policy of a set with one writer and no volume.
func (d *Daemon) testPolicy(r api.WriterTestRequest) (effective, error) {
	if _, err := d.writer(r.Writer); err != nil {
		return effective{}, classed(api.NotFound, err)
	}
	if r.Policy == "" {
		return d.policy(&api.Request{Writers: []string{r.Writer}, Consistency: api.Crash}) // whatever it claims, is told
	}
	policy, err := d.policy(&api.Request{Policy: r.Policy})
	if err != nil {
		return effective{}, err
	}
	policy.writers = slices.DeleteFunc(policy.writers, func(w config.Writer) bool { return w.Name != r.Writer })
	if len(policy.writers) == 0 {
		return effective{}, api.Errorf(api.Invalid, "policy %s does not name writer %s", r.Policy, r.Writer)
	}
	return policy, nil
}

// resolveTest finds the volumes that the writer is told of.
func (t *transaction) resolveTest(ctx context.Context) error {
	ctx, cancel := t.withPrepareLimit(ctx)
	defer cancel()
	var p plan
	x := call{key: "resolve", what: "a look at the volumes", fail: "look at the volumes"}
	err := t.daemon.calls.do(ctx, x, func() (err error) {
		p, err = t.daemon.quietPlan(t.policy, true)
		return err
	})
	if err == nil {
		t.plan = p
	}
	return classed(api.Invalid, err)
}

// holdTest is what a freeze window asks of a writer: to hold to its end.
func (t *transaction) holdTest(ctx context.Context) error {
	select {
	case <-time.After(testHold):
	case <-ctx.Done():
		return api.Errorf(api.Cancelled, "cancelled in the hold: %w", context.Cause(ctx))
	}
	if err := t.writers.Holding(); err != nil {
		return api.Errorf(api.Broken, "a writer let go before the capture: %w", err)
	}
	return nil
}

// tested says what a set would have been told; failed is what it would have failed with, after what would have gone wrong when
// it was finished.
func (t *transaction) tested(failed, after error) *api.WriterTest {
	r := &api.WriterTest{Writer: t.writerRecords()[0]}
	if failed == nil {
		r.Consistency, r.Reasons = claim(plan{}, t.policy, t.writers.States(), t.writers.Reasons())
		failed = acceptable(r.Consistency, r.Reasons, t.policy)
	}
	if after != nil {
		r.Reasons = append(r.Reasons, afterwards(after))
	}
	if failed != nil {
		r.Consistency, r.Reasons, r.Class, r.Error = "", nil, api.Of(failed), failed.Error()
	}
	return r
}

// writerRecords are the writers' entries in the manifest, as far as the transaction has got.
func (t *transaction) writerRecords() []api.Writer {
	hold := api.Phase{Name: "hold", Window: true}
	if !t.hold[0].IsZero() { // else not all held
		hold.Start, hold.Duration = t.hold[0].Sub(t.begun), max(0, t.hold[1].Sub(t.hold[0]))
	}
	return writerRecords(t.policy.writers, t.writers, t.begun, hold)
}

// remember keeps what the writers did, for the inventory. It is where they would be counted, too.
func (t *transaction) remember() {
	if t.writers == nil {
		return
	}
	d := t.daemon
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range t.writerRecords() {
		run := &api.WriterRun{Set: t.id, Policy: t.policy.Name, Test: t.test, Time: t.begun.UTC(), State: w.State, Phases: w.Phases}
		for _, p := range w.Phases {
			if p.Error != "" {
				run.Error = p.Error
			}
		}
		h := d.history[w.Name]
		h.last = run
		if run.Error != "" {
			h.failed = run
		}
		d.history[w.Name] = h
	}
}

// past is what is remembered of a writer.
type past struct{ last, failed *api.WriterRun }

// withPast adds to an inventory's entry what the daemon has seen of the writer since it started.
func (d *Daemon) withPast(w api.Writer) api.Writer {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.history[w.Name]
	w.Last = h.last
	if h.failed != h.last {
		w.LastFailure = h.failed
	}
	return w
}
