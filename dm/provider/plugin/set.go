package plugin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// set is a plug-in's part in one snapshot set, with a process of its own.
type set struct {
	provider *Provider
	id       provider.Set
	volumes  []provider.Volume
	session  *session // nil: not started, or ended
	origins  []*provider.Suspension

	prepared bool // the plug-in was asked to, so there is something to abort
	locked   bool
	watched  bool
	until    time.Time // no call of the window lasts longer

	preCommit, commit, postCommit request
	holding                       bool  // the plug-in was asked to hold, and not yet to release
	captured                      bool  // it has said that it captured
	lost                          error // what went wrong when it released
}

// Prepare starts a process and has the volumes armed by it.
func (p *Provider) Prepare(ctx context.Context, id provider.Set, vols []provider.Volume) (provider.Enlistment, error) {
	e := &set{provider: p, id: id, volumes: vols}
	for _, v := range vols {
		if err := speakable(v); err != nil {
			return e, err
		}
	}
	var err error
	if e.session, err = p.session(ctx); err != nil {
		return e, err
	}
	p.note(e.session)
	e.prepared = true
	wire := toSet(id)
	r, err := e.ask(ctx, protocol.Prepare, p.spec.Limits.Change, protocol.Params{Set: &wire, Volumes: toVolumes(vols)})
	if err != nil {
		return e, err
	}
	return e, e.suspensions(r.Suspend)
}

// suspensions prepares what the plug-in wants suspended: device-mapper volumes of this set, and nothing else.
func (e *set) suspensions(wanted []string) error {
	var asked []dm.Dev
	for _, text := range wanted {
		dev, err := dm.ParseDev(text)
		i := slices.IndexFunc(e.volumes, func(v provider.Volume) bool { return v.Dev == dev && v.Device != "" })
		switch {
		case err != nil:
			return e.wrong(protocol.Prepare, err)
		case i < 0:
			return e.wrong(protocol.Prepare, fmt.Errorf("it wants %v suspended, which is no device-mapper volume of the set", dev))
		case !e.provider.can(protocol.NeedsSuspend):
			return e.wrong(protocol.Prepare, errors.New("it wants a volume suspended, and that is none of its capabilities"))
		case slices.Contains(asked, dev):
			return e.wrong(protocol.Prepare, fmt.Errorf("it wants %v suspended twice", dev))
		}
		asked = append(asked, dev)
		e.origins = append(e.origins, e.provider.o.Devices.Suspension(e.volumes[i]))
	}
	return nil
}

func (e *set) wrong(m protocol.Method, cause error) error {
	return &failure{plugin: e.provider.Name(), method: m, cause: cause}
}

// ask asks the set's own process, outside of the window.
func (e *set) ask(ctx context.Context, m protocol.Method, limit time.Duration, p protocol.Params) (protocol.Result, error) {
	if e.session == nil {
		return protocol.Result{}, e.wrong(m, errors.New("its process was ended"))
	}
	return e.session.call(ctx, m, limit, p)
}

func (e *set) Origins() []dm.Dev {
	devs := make([]dm.Dev, len(e.origins))
	for i, o := range e.origins {
		devs[i] = o.Dev()
	}
	return devs
}

func (e *set) Watch(holds []provider.Hold) {
	e.watched = holds != nil
	for i, o := range e.origins {
		o.Watch(nil)
		if holds != nil {
			o.Watch(holds[i])
		}
	}
}

// Limit says how long the window may last, from now on. The plug-in gets less, so that its failure is known before the
// guard ends the window.
func (e *set) Limit(window time.Duration) { e.until = time.Now().Add(window - window/8) }

// Lock has the plug-in look whether all is as it was when it armed, and makes the lines for the window.
func (e *set) Lock(ctx context.Context) error {
	e.locked = true
	_, err := e.ask(ctx, protocol.Lock, e.provider.spec.Limits.Change, protocol.Params{})
	if err == nil {
		err = errors.Join(e.unsuspended(), e.lines())
	}
	if err != nil {
		return errors.Join(err, e.Unlock())
	}
	return nil
}

// unsuspended refuses volumes that somebody else has suspended: they are theirs to resume.
func (e *set) unsuspended() error {
	for _, v := range e.volumes {
		if !slices.Contains(e.Origins(), v.Dev) {
			continue
		}
		suspended, err := e.provider.o.Devices.Suspended(v.Dev)
		if err != nil {
			return err
		}
		if suspended {
			return fmt.Errorf("cannot suspend %s: somebody else has suspended it (dmsetup resume %s)", v.Name, v.Device)
		}
	}
	return nil
}

func (e *set) lines() error {
	var errs [3]error
	limit := e.provider.spec.Limits.Window
	e.preCommit, errs[0] = e.session.request(protocol.PreCommit, limit, protocol.Params{})
	e.commit, errs[1] = e.session.request(protocol.Commit, limit, protocol.Params{})
	e.postCommit, errs[2] = e.session.request(protocol.PostCommit, limit, protocol.Params{})
	return errors.Join(errs[:]...)
}

// Unlock ends a process that has broken its word: its locks end with it.
func (e *set) Unlock() error {
	if !e.locked || e.session == nil {
		return nil
	}
	e.locked = false
	switch { // Abort sees to the rest
	case e.session.busy.Load():
		e.session.child.Kill()
		return nil
	case e.session.isBroken():
		e.session.stop()
		return nil
	}
	_, err := e.ask(context.Background(), protocol.Unlock, e.provider.spec.Limits.Query, protocol.Params{})
	return err
}

// Inside the freeze window.

// window is a call of the window.
func (e *set) window(q request) error {
	until := time.Now().Add(q.limit)
	if !e.until.IsZero() && e.until.Before(until) {
		until = e.until
	}
	_, err := e.session.ask(q, until, nil)
	return err
}

func (e *set) PreCommit() error {
	if !e.watched || e.session == nil || e.preCommit.line == nil {
		return fmt.Errorf("internal error: no guard watches, or no lock is held, for plug-in %s", e.provider.Name())
	}
	for _, o := range e.origins {
		if err := o.Stop(); err != nil {
			return err
		}
	}
	e.holding = true
	return e.window(e.preCommit)
}

func (e *set) Commit() error {
	for _, o := range e.origins {
		if !o.Held() { // past the deadline Abort may have been told already: a capture would be nobody's
			return fmt.Errorf("cannot capture with plug-in %s: %w", e.provider.Name(), provider.ErrOvertaken)
		}
	}
	err := e.window(e.commit)
	e.captured = err == nil
	return err
}

// PostCommit resumes our own suspensions first, whatever the plug-in does. That the plug-in fails to release is no reason
// to try again: its hold ends with its process, and Verify tells.
func (e *set) PostCommit() error {
	var errs error
	for _, o := range e.origins {
		if err := o.Start(); err != nil {
			errs = errors.Join(errs, err)
		}
	}
	if !e.holding || e.session == nil || e.session.busy.Load() { // busy: the window was given up, and its end comes with the process
		return errs
	}
	e.holding = false
	if err := e.window(e.postCommit); err != nil && e.lost == nil {
		e.lost = err
	}
	return errs
}

// After it.

func (e *set) Verify() error {
	if e.lost != nil {
		return e.lost
	}
	for _, o := range e.origins {
		if err := o.Broken(); err != nil {
			return err
		}
	}
	_, err := e.ask(context.Background(), protocol.Verify, e.provider.spec.Limits.Query, protocol.Params{})
	return err
}

// Finalize believes the plug-in only if its answer is the set.
func (e *set) Finalize(ctx context.Context, f provider.Final) ([]provider.Snapshot, error) {
	if !e.captured || e.lost != nil {
		return nil, e.wrong(protocol.Finalize, errors.New("it has not captured"))
	}
	final := protocol.Final(f)
	r, err := e.ask(ctx, protocol.Finalize, e.provider.spec.Limits.Change, protocol.Params{Final: &final})
	if err != nil {
		return nil, err
	}
	snaps, err := e.provider.fromSnapshots(r.Snapshots)
	if err == nil {
		err = e.complete(snaps)
	}
	if err != nil {
		return nil, e.wrong(protocol.Finalize, err)
	}
	if err := e.leave(); err != nil { // the set is finished all the same
		e.provider.o.Log.Warn("plug-in", "error", err)
	}
	return snaps, nil
}

// complete is nil if there is one finished snapshot of each volume.
func (e *set) complete(snaps []provider.Snapshot) error {
	if len(snaps) != len(e.volumes) {
		return fmt.Errorf("it tells of %d snapshots of %d volumes", len(snaps), len(e.volumes))
	}
	for _, v := range e.volumes {
		if !slices.ContainsFunc(snaps, func(s provider.Snapshot) bool {
			return s.Origin == v.Name && s.Set == e.id && !s.Armed && !s.Scratch && s.Invalid == ""
		}) {
			return fmt.Errorf("it tells of no finished snapshot of %s", v.Name)
		}
	}
	return nil
}

// leave ends the set's process.
func (e *set) leave() error {
	if e.session == nil {
		return nil
	}
	err := e.session.end()
	e.provider.forget(e.session)
	e.session = nil
	return err
}

// Abort has the set's snapshots removed. If the set's own process cannot do that any more, another one can: the truth is
// the plug-in's, not the process's.
func (e *set) Abort(ctx context.Context) error {
	if !e.prepared {
		return e.leave()
	}
	id := toSet(e.id)
	params := protocol.Params{Set: &id}
	limit := e.provider.spec.Limits.Change
	err := errExited
	if e.session != nil && !e.session.isBroken() {
		_, err = e.session.call(ctx, protocol.Abort, limit, params)
	}
	left := e.leave()
	if err != nil {
		if _, again := e.provider.pool.call(ctx, protocol.Abort, limit, params); again != nil {
			return fmt.Errorf("cannot remove the armed snapshots: %w", errors.Join(again, left))
		}
	}
	e.prepared = false
	return left
}
