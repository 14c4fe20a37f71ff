package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// floor is the bare loop of the ioctls that a freeze window is made of, on volumes that their provider has armed:
// real-time priority, everything prepared, memory locked, and nobody else to agree with. One thread does it all, or, if
// together is set, a thread for each filesystem freezes and thaws. Neither is the faster one everywhere: the lower median
// counts as the floor.
type floor struct {
	*group
	together bool
}

func (f floor) name() string {
	if f.together {
		return floorTogether
	}
	return floorInTurn
}

const (
	floorInTurn   = "floor"
	floorTogether = "floor, threads"
)

func (floor) rounds(n int) int { return frequent(n) }

func (f floor) round(ctx context.Context, n int) (s sample, err error) {
	ready, disarm, err := f.arm(ctx, f.vols[:n])
	defer func() { err = errors.Join(err, disarm()) }()
	if err != nil {
		return s, err
	}
	for _, a := range ready {
		if err := unix.Syncfs(a.fd); err != nil {
			return s, fmt.Errorf("cannot write out: %w", err)
		}
	}
	unlock, err := fsfreeze.LockMemory()
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	crew := fsfreeze.NewCrew(n)
	defer crew.Close()
	do := crew.Do
	if !f.together {
		do = func(act func(int) error) []error { return inTurn(n, act) }
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := fsfreeze.Urgent()
		if err == nil {
			s.window, err = fire(ready, do)
		}
		done <- err
	}()
	err = <-done
	return s, err
}

// inTurn acts on one after the other.
func inTurn(n int, act func(int) error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = act(i)
	}
	return errs
}

// fire freezes all, captures all, thaws all, and undoes what it did on any error. do acts on all filesystems.
func fire(ready []armed, do func(act func(i int) error) []error) (window time.Duration, err error) {
	frozen := make([]bool, len(ready))
	freeze := func(i int) error {
		err := fsfreeze.Freeze(ready[i].fd)
		frozen[i] = err == nil
		return err
	}
	thaw := func(i int) error {
		if !frozen[i] {
			return nil
		}
		return fsfreeze.Thaw(ready[i].fd)
	}
	begin := time.Now()
	err = join(do(freeze))
	suspended := 0
	if err == nil {
		for _, a := range ready {
			if err = a.suspend.Do(); err != nil {
				break
			}
			suspended++
		}
	}
	if err == nil {
		for _, a := range ready {
			if err = a.capture.Do(); err != nil {
				break
			}
		}
	}
	for _, a := range ready[:suspended] {
		if e := a.resume.Do(); e != nil {
			err = errors.Join(err, e)
		}
	}
	if e := join(do(thaw)); e != nil {
		err = errors.Join(err, e)
	}
	return time.Since(begin), err
}

// join is errors.Join, which allocates even for nothing but nils.
func join(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return errors.Join(errs...)
		}
	}
	return nil
}
