package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

const (
	// maxRunning jobs at a time: sets wait their turn, and a requester must not fill the queue without end.
	maxRunning = 64
	// maxFinished jobs are kept, and each for keepFinished only.
	maxFinished  = 64
	keepFinished = time.Minute
)

// outcomeOK is the outcome of a job that did what it was asked; otherwise the outcome is the error's class.
const outcomeOK = "ok"

// job is one piece of long work.
type job struct {
	number uint64
	kind   string // create, delete, mount, umount, resize, quiesce, use and others
	owner  dbus.Sender
	// details of the call that started it, and its policy.
	details Details
	policy  string
	begun   time.Time
	bound   atomic.Bool // cancelled when its owner leaves the bus
	cancel  context.CancelFunc
	phase   atomic.Pointer[string]
	hold    *hold                  // of a job of kind quiesce or use
	set     atomic.Pointer[string] // that is used

	done   chan struct{} // closed at the end; what follows is set before
	ended  time.Time
	report report
}

// report is how a job ended.
type report struct {
	outcome string
	err     string
	result  string // JSON, or empty
}

func (j *job) name() string          { return strconv.FormatUint(j.number, 10) }
func (j *job) path() dbus.ObjectPath { return jobRoot + dbus.ObjectPath("/"+j.name()) }

func (j *job) isDone() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// setPhase is the service's progress function: one pointer is stored, nobody is woken.
func (j *job) setPhase(phase string) { j.phase.Store(&phase) }

func (j *job) currentPhase() string {
	if p := j.phase.Load(); p != nil {
		return *p
	}
	return ""
}

// jobs holds the running and the recently finished jobs.
type jobs struct {
	changed func() // tells the announcer; never blocks

	mu     sync.Mutex
	ctx    context.Context // parent of every job's
	byNum  map[uint64]*job
	next   uint64
	active int
	closed bool // none is started any more
	used   time.Time
	sets   uint64     // counts the changes of the sets
	ended  *sync.Cond // a job has ended
}

func newJobs(changed func()) *jobs {
	js := &jobs{changed: changed, byNum: map[uint64]*job{}, next: 1}
	js.ended = sync.NewCond(&js.mu)
	return js
}

func (js *jobs) begin(ctx context.Context) {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.ctx = ctx
}

// start runs work as a job. The work's result is kept as JSON; nil is kept as the empty string.
func (js *jobs) start(kind string, by call, work func(context.Context, *job) (any, error)) (*job, error) {
	return js.startHold(kind, by, nil, work)
}

// startHold is start for a job that has a hold.
func (js *jobs) startHold(kind string, by call, h *hold, work func(context.Context, *job) (any, error)) (*job, error) {
	js.mu.Lock()
	defer js.mu.Unlock()
	if js.closed {
		return nil, api.Errorf(api.Busy, "fermatad reads its configuration anew; try again in a moment")
	}
	if js.ctx == nil || js.ctx.Err() != nil {
		return nil, api.Errorf(api.Failed, "fermatad is stopping; try again when it runs")
	}
	if js.active >= maxRunning {
		return nil, api.Errorf(api.Busy, "%d jobs are running or waiting; try again when they are done", js.active)
	}
	ctx, cancel := context.WithCancel(js.ctx)
	j := &job{number: js.next, kind: kind, owner: by.sender, details: by.details, policy: cmp.Or(by.policy, by.details["policy"]), begun: time.Now(), cancel: cancel, hold: h, done: make(chan struct{})}
	js.next++
	js.active++
	js.byNum[j.number] = j
	go func() {
		defer cancel()
		// A panic here ends the daemon, and the guard lets go: to go on with a transaction whose code failed would be worse.
		result, err := work(ctx, j)
		js.finish(j, newReport(ctx, result, err))
	}()
	js.changed()
	return j, nil
}

func newReport(ctx context.Context, result any, err error) report {
	if err != nil {
		class := api.Of(err)
		// Whatever the cancellation met first may not have known that it was one.
		if class == api.Failed && ctx.Err() != nil && errors.Is(err, context.Canceled) {
			class = api.Cancelled
		}
		return report{outcome: string(class), err: err.Error()}
	}
	if result == nil {
		return report{outcome: outcomeOK}
	}
	text, err := json.Marshal(result)
	if err != nil {
		return report{outcome: string(api.Failed), err: "internal error: cannot encode the result: " + err.Error()}
	}
	return report{outcome: outcomeOK, result: string(text)}
}

func (js *jobs) finish(j *job, r report) {
	js.mu.Lock()
	j.report = r
	j.ended = time.Now()
	js.used = j.ended
	js.active--
	js.sets++
	close(j.done)
	js.prune(j.ended)
	js.ended.Broadcast()
	js.mu.Unlock()
	js.changed()
	time.AfterFunc(keepFinished, func() {
		js.mu.Lock()
		js.prune(time.Now())
		js.mu.Unlock()
		js.changed()
	})
}

// prune forgets finished jobs that are too old or too many. The caller holds the lock.
func (js *jobs) prune(now time.Time) {
	var finished []*job
	for _, j := range js.byNum {
		if j.isDone() {
			finished = append(finished, j)
		}
	}
	slices.SortFunc(finished, func(a, b *job) int { return b.ended.Compare(a.ended) }) // newest first
	for i, j := range finished {
		if i >= maxFinished || now.Sub(j.ended) >= keepFinished {
			delete(js.byNum, j.number)
		}
	}
}

// list of all jobs, by number.
func (js *jobs) list() []*job {
	js.mu.Lock()
	defer js.mu.Unlock()
	return slices.SortedFunc(maps.Values(js.byNum), func(a, b *job) int { return cmp.Compare(a.number, b.number) })
}

// find the job at a path.
func (js *jobs) find(path dbus.ObjectPath) (*job, error) {
	name, ok := child(string(jobRoot), path)
	if ok {
		if n, err := strconv.ParseUint(name, 10, 64); err == nil {
			js.mu.Lock()
			defer js.mu.Unlock()
			if j := js.byNum[n]; j != nil && j.name() == name {
				return j, nil
			}
		}
	}
	return nil, unknownObject(path)
}

// vanished cancels the jobs that hang on a requester's connection.
func (js *jobs) vanished(owner dbus.Sender) {
	for _, j := range js.list() {
		if j.owner == owner && j.bound.Load() {
			j.cancel()
		}
	}
}

func (js *jobs) running() int {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.active
}

// close lets no job be started any more; false, and nothing done, while one runs.
func (js *jobs) close() bool {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.closed = js.closed || js.active == 0
	return js.closed
}

// open takes close back.
func (js *jobs) open() {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.closed = false
}

func (js *jobs) touch() {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.used = time.Now()
}

func (js *jobs) lastUsed() time.Time {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.used
}

func (js *jobs) setsChanged() {
	js.mu.Lock()
	defer js.mu.Unlock()
	js.sets++
}

func (js *jobs) setsVersion() uint64 {
	js.mu.Lock()
	defer js.mu.Unlock()
	return js.sets
}

// wait for the last job to end. None is started any more once the parent context has ended.
func (js *jobs) wait() {
	js.mu.Lock()
	defer js.mu.Unlock()
	for js.active > 0 {
		js.ended.Wait()
	}
}
