//go:build lab

package fsfreeze_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// blockFreezes keeps every FIFREEZE of a filesystem from coming to its end until release is called: somebody is inside a
// splice(2) from an empty pipe into a file, which needs no rights.
func blockFreezes(t *testing.T, point string) (release func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(point, "spliced"))
	do(t, err)
	var pipe [2]int
	do(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	ended := make(chan error, 1)
	go func() {
		_, err := unix.Splice(pipe[0], nil, int(f.Fd()), nil, 4096, 0)
		ended <- errors.Join(err, f.Close(), unix.Close(pipe[0]))
	}()
	time.Sleep(100 * time.Millisecond) // there is no telling when it is inside
	return func() {
		do(t, unix.Close(pipe[1]))
		do(t, <-ended)
	}
}

type released struct {
	did bool
	err error
}

// overtake has a releaser come while a filesystem is being frozen, who is short of patience.
func overtake(t *testing.T, point string, c *fsfreeze.Cell) <-chan released {
	t.Helper()
	h := open(t, point)
	out := make(chan released, 1)
	go func() {
		did, err := fsfreeze.Release(c, func() error { return fsfreeze.Thaw(h.Fd()) }, 100*time.Millisecond, func() bool { return false })
		out <- released{did, err}
	}()
	return out
}

// A freeze that takes longer than anybody's patience is released when it is there at last.
func TestReleaseOutlastsPatience(t *testing.T) {
	point := format(t, 0, "ext4")
	unblock := blockFreezes(t, point)
	c, h := new(fsfreeze.Cell), open(t, point)
	h.Share(c)
	frozen := make(chan error, 1)
	go func() { frozen <- h.Freeze() }()
	time.Sleep(100 * time.Millisecond)
	r := overtake(t, point, c)
	time.Sleep(500 * time.Millisecond)
	w := write(t, point)
	waits(t, "while the freeze is under way", w)
	unblock()
	if err := <-frozen; !errors.Is(err, fsfreeze.ErrOvertaken) {
		t.Errorf("the freeze ended with %v", err)
	}
	through(t, "released", w)
	if got := <-r; !got.did || got.err != nil || c.State() != fsfreeze.Released {
		t.Errorf("got %+v, %v", got, c.State())
	}
}

// A freeze of somebody else that is under way is theirs also when ours waits behind it (Linux 6.6 and newer) past its deadline.
func TestReleaseLeavesTheirs(t *testing.T) {
	point := format(t, 0, "ext4")
	unblock := blockFreezes(t, point)
	theirs, c, h := open(t, point), new(fsfreeze.Cell), open(t, point)
	h.Share(c)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- fsfreeze.Freeze(theirs.Fd()) }()
	time.Sleep(100 * time.Millisecond)
	go func() { second <- h.Freeze() }()
	time.Sleep(100 * time.Millisecond)
	r := overtake(t, point, c)
	time.Sleep(500 * time.Millisecond) // it naps for as long as it will
	unblock()
	do(t, <-first)
	err := <-second
	got := <-r
	if !errors.Is(err, fsfreeze.ErrFrozen) || got.did || got.err != nil {
		t.Errorf("ours ended with %v, the releaser with %+v", err, got)
	}
	if err := fsfreeze.Thaw(theirs.Fd()); err != nil {
		t.Errorf("theirs was thawed: %v", err)
	}
	through(t, "thawed", write(t, point))
}
