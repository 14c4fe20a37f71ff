package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// application writes 4 KiB and synchronises it, again and again, with a millisecond between one acknowledgement and the
// next write. Its longest stall is the longest time from one acknowledgement to the next: what somebody who waits for it
// sees, whatever it is that was slow.
type application struct {
	stopping atomic.Bool
	done     chan error
	longest  time.Duration
	writes   int
}

// Its file is overwritten in turn, so that the first write to each piece after a snapshot pays for the copy.
const (
	piece      = 4 << 10
	pieces     = 1024
	betweenTwo = time.Millisecond
)

func startApplication(point string) (*application, error) {
	path := filepath.Join(point, "application")
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", path, err)
	}
	a := &application{done: make(chan error, 1)}
	if _, err = unix.Write(fd, make([]byte, piece*pieces)); err == nil {
		err = unix.Fsync(fd)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write %s: %w", path, err), unix.Close(fd))
	}
	go func() { a.done <- errors.Join(a.write(fd), unix.Close(fd), os.Remove(path)) }()
	return a, nil
}

func (a *application) write(fd int) error {
	b := make([]byte, piece)
	last := time.Now()
	for ; !a.stopping.Load(); a.writes++ {
		if _, err := unix.Pwrite(fd, b, int64(a.writes%pieces)*piece); err != nil {
			return fmt.Errorf("the application cannot write: %w", err)
		}
		if err := unix.Fdatasync(fd); err != nil {
			return fmt.Errorf("the application cannot write: %w", err)
		}
		now := time.Now()
		a.longest = max(a.longest, now.Sub(last))
		last = now
		time.Sleep(betweenTwo)
	}
	return nil
}

// stop ends the application; longest is final then.
func (a *application) stop() error {
	a.stopping.Store(true)
	return <-a.done
}

// watched is a contender with the application running on the group's first volume, before, while and after it acts. Its
// samples have the longest stall only.
type watched struct {
	contender
	point string
}

func (watched) rounds(int) int { return 6 }

func (w watched) round(ctx context.Context, n int) (sample, error) {
	a, err := startApplication(w.point)
	if err != nil {
		return sample{}, err
	}
	time.Sleep(100 * betweenTwo)
	_, err = w.contender.round(ctx, n)
	err = errors.Join(err, a.stop())
	if err == nil && a.writes < 10 {
		err = fmt.Errorf("the application made %d writes only", a.writes)
	}
	return sample{stall: a.longest}, err
}

// nothing is what the stalls are to be seen beside: a second in which nothing else happens.
type nothing struct{}

func (nothing) name() string   { return "nothing" }
func (nothing) rounds(int) int { return 6 }
func (nothing) round(context.Context, int) (sample, error) {
	time.Sleep(time.Second)
	return sample{}, nil
}
