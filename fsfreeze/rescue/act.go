package rescue

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// Result is what became of a target.
type Result string

const (
	Released Result = "released" // it was frozen or suspended, and is no longer
	Free     Result = "free"     // it was neither
	Stuck    Result = "stuck"    // the kernel has not answered in time; it is released as soon as the kernel does
	Failed   Result = "failed"   // the kernel refused
	Gone     Result = "gone"     // a filesystem of ours that is mounted nowhere any more
)

// Outcome is what became of one target.
type Outcome struct {
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"`
	Set    string `json:"set,omitempty"` // empty: not known to be ours
	Result Result `json:"result"`
	Error  string `json:"error,omitempty"`
	Dev    uint64 `json:"-"`
}

// OK reports whether the target is held by nobody now.
func (o Outcome) OK() bool { return o.Result == Released || o.Result == Free }

const (
	// asking is how long EINVAL is asked again: a freeze that is under way answers so until it is complete, and needs its
	// device, which was resumed just now.
	asking      = 2 * time.Second
	askingPause = time.Millisecond
)

// Act releases: first the devices, then the filesystems. resume makes one attempt, and answers EINVAL if the device is
// not suspended. It returns when every target has its outcome, or after limit. Threads that are stuck in the kernel then
// go on: whoever ends this process waits for them.
func Act(p Plan, resume func(dev uint64) error, limit time.Duration) []Outcome {
	end := time.Now().Add(limit)
	devices, filesystems := split(p.Targets)
	patience := asking
	if p.Settled {
		patience = 0
	}
	out := together(devices, time.Until(end)/2, func(t Target) Outcome { return judge(t, resume(t.Dev)) })
	out = append(out, together(filesystems, time.Until(end), func(t Target) Outcome { return judge(t, thaw(t, patience)) })...)
	for _, t := range p.Gone {
		o := outcome(t, Gone)
		o.Error = "it was unmounted while it was frozen; mount it again and thaw it by its mount point"
		out = append(out, o)
	}
	return out
}

func split(targets []Target) (devices, filesystems []Target) {
	for _, t := range targets {
		if t.Kind == KindDevice {
			devices = append(devices, t)
		} else {
			filesystems = append(filesystems, t)
		}
	}
	return devices, filesystems
}

// together releases all targets at once, and does not wait longer than limit.
func together(targets []Target, limit time.Duration, release func(Target) Outcome) []Outcome {
	var mu sync.Mutex
	out := make([]Outcome, len(targets))
	for i, t := range targets {
		out[i] = outcome(t, Stuck)
		out[i].Error = "the kernel does not answer; it is released as soon as it does (dmesg may say what hangs)"
	}
	done := make(chan struct{}, len(targets))
	for i, t := range targets {
		go func() {
			runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
			_ = fsfreeze.Urgent()  // it is only slower without
			o := release(t)
			mu.Lock()
			out[i] = o
			mu.Unlock()
			done <- struct{}{}
		}()
	}
	late := time.After(limit)
wait:
	for range targets {
		select {
		case <-done:
		case <-late:
			break wait
		}
	}
	mu.Lock()
	defer mu.Unlock()
	return append([]Outcome(nil), out...)
}

func outcome(t Target, r Result) Outcome {
	return Outcome{Kind: t.Kind, Name: t.Name, Set: t.Set, Dev: t.Dev, Result: r}
}

func judge(t Target, err error) Outcome {
	switch {
	case err == nil:
		return outcome(t, Released)
	case errors.Is(err, unix.EINVAL):
		return outcome(t, Free)
	}
	o := outcome(t, Failed)
	o.Error = err.Error()
	return o
}

// thaw releases one freeze; EINVAL if there is none, nor is for patience.
func thaw(t Target, patience time.Duration) error {
	h, err := fsfreeze.Open(fsfreeze.Filesystem{Dev: t.Dev, Mounts: t.Mounts})
	if err != nil {
		return err
	}
	pause := unix.NsecToTimespec(int64(askingPause)) // in the kernel: this thread is urgent, the runtime's timers are not
	for end := time.Now().Add(patience); ; _ = unix.Nanosleep(&pause, nil) {
		err = fsfreeze.Thaw(h.Fd())
		if !errors.Is(err, unix.EINVAL) || time.Now().After(end) {
			break
		}
	}
	if err != nil && !errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("cannot thaw %s: %w", t.Name, err)
	}
	return errors.Join(err, h.Close())
}

// Lock keeps what this process has in memory there. Nothing is read in for it: a page of the program that is still to be
// read from a suspended device must not be asked for before the device is resumed.
func Lock() error {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("cannot lock memory: %w", err)
	}
	return nil
}
