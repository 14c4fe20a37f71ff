package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
)

// floor is the bare loop of the ioctls that a freeze window is made of, on volumes that were armed as Fermata arms them:
// real-time priority, everything prepared, memory locked, and nobody else to agree with. One thread does it all, or, if
// together is set, a thread for each filesystem freezes and thaws. Neither is the faster one everywhere: the lower median
// counts as the floor.
type floor struct {
	*stage
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

// armed is one volume ready to fire.
type armed struct {
	fd                       int
	suspend, capture, resume *dm.Call
}

func (f floor) round(ctx context.Context, n int) (s sample, err error) {
	vols := f.calm[:n]
	var ready []armed
	defer func() {
		for _, a := range ready {
			err = errors.Join(err, unix.Close(a.fd))
		}
		err = errors.Join(err, f.remove(vols))
	}()
	if ready, err = f.arm(ctx, vols); err != nil {
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

// arm makes LVM's records of the snapshots, and takes the thin devices behind them away again.
func (f floor) arm(ctx context.Context, vols []volume) ([]armed, error) {
	for _, v := range vols {
		if err := f.lvm.CreateThinSnapshot(ctx, vg, v.lv, v.lv+"-snap", true); err != nil {
			return nil, err
		}
	}
	inventory, err := f.lvm.Report(ctx, vg)
	if err != nil {
		return nil, err
	}
	var out []armed
	for _, v := range vols {
		snap, ok := inventory.LV(vg, v.lv+"-snap")
		if !ok || snap.ThinID == nil {
			return out, fmt.Errorf("LVM does not know the snapshot of %s", v.lv)
		}
		if err := f.control.Message(dm.ByDev(v.pool), 0, fmt.Sprintf("delete %d", *snap.ThinID)); err != nil {
			return out, err
		}
		fd, err := unix.Open(v.point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return out, fmt.Errorf("cannot open %s: %w", v.point, err)
		}
		out = append(out, armed{
			fd:      fd,
			suspend: f.control.PrepareSuspend(v.dev, dm.SkipLockFS),
			capture: f.control.PrepareMessage(v.pool, 0, fmt.Sprintf("create_snap %d %d", *snap.ThinID, v.id)),
			resume:  f.control.PrepareResume(v.dev, dm.SkipLockFS),
		})
	}
	return out, nil
}

// include/uapi/linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fifreeze = 0xC0045877
	fithaw   = 0xC0045878
)

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
		err := ioctl(ready[i].fd, fifreeze)
		frozen[i] = err == nil
		return err
	}
	thaw := func(i int) error {
		if !frozen[i] {
			return nil
		}
		return ioctl(ready[i].fd, fithaw)
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

func ioctl(fd int, request uintptr) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR: // the runtime's own preemption signals
			continue
		}
		return fmt.Errorf("cannot freeze or thaw: %w", errno)
	}
}
