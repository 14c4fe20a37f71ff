package clone

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// source makes a file of some extents, of which the third is zeros and the last is short.
func source(t *testing.T) (Copy, []byte) {
	t.Helper()
	data := make([]byte, 6*extent+3*512)
	chacha := rand.NewChaCha8([32]byte{1})
	_, _ = chacha.Read(data) // never fails
	clear(data[2*extent : 3*extent])
	dir := t.TempDir()
	c := Copy{Device: filepath.Join(dir, "device"), Image: filepath.Join(dir, "0.img"), Size: uint64(len(data))}
	if err := os.WriteFile(c.Device, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return c, data
}

func same(t *testing.T, c Copy, data []byte) {
	t.Helper()
	if err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(c.Image); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the copy differs: %v", err)
	}
}

func TestCopy(t *testing.T) {
	c, data := source(t)
	var told []uint64
	c.Progress = func(done uint64) { told = append(told, done) }
	same(t, c, data)
	if !slices.IsSorted(told[:7]) || !slices.IsSorted(told[7:]) || len(told) != 14 || told[6] != c.Size {
		t.Errorf("told %v", told)
	}
	var st unix.Stat_t
	if err := unix.Stat(c.Image, &st); err != nil || st.Blocks*512 > 5*extent+extent/2 {
		t.Errorf("%d bytes on the disk, for five extents and a hole (%v)", st.Blocks*512, err)
	}
}

// What a crash may leave, and what nobody should.
func TestResume(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(c Copy) error
		again int // extents that are copied again
	}{
		{"nothing is missing", func(Copy) error { return nil }, 0},
		{"sums are missing", func(c Copy) error { return os.Truncate(sumsOf(c.Image), 4*32) }, 3},
		{"a sum is torn", func(c Copy) error { return os.Truncate(sumsOf(c.Image), 4*32+7) }, 3},
		{"all sums are missing", func(c Copy) error { return os.Remove(sumsOf(c.Image)) }, 7},
		{"the image is too short", func(c Copy) error { return os.Truncate(c.Image, 5*extent+17) }, 2},
		{"the image is missing", func(c Copy) error { return os.Remove(c.Image) }, 7},
		{"its last extents are garbage", func(c Copy) error { return scribble(c.Image, 5*extent+9, 2*extent-9) }, 2},
		{"there is garbage where a hole should be", func(c Copy) error {
			return errors.Join(os.Truncate(sumsOf(c.Image), 2*32), scribble(c.Image, 2*extent+100, 200))
		}, 5},
		{"there are too many sums", func(c Copy) error { return os.Truncate(sumsOf(c.Image), 900) }, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, data := source(t)
			same(t, c, data)
			if err := tt.spoil(c); err != nil {
				t.Fatal(err)
			}
			told := 0
			c.Progress = func(uint64) { told++ }
			if err := c.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if told != tt.again {
				t.Errorf("%d extents were copied again, want %d", told, tt.again)
			}
			same(t, c, data)
		})
	}
}

func scribble(name string, offset, n int64) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(bytes.Repeat([]byte("x"), int(n)), offset)
	return errors.Join(err, f.Close())
}

func TestCancelAndGoOn(t *testing.T) {
	c, data := source(t)
	ctx, cancel := context.WithCancel(t.Context())
	c.Progress = func(done uint64) {
		if done >= 3*extent {
			cancel()
		}
	}
	if err := c.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	c.Progress = nil
	same(t, c, data)
}

func TestVerify(t *testing.T) {
	for name, spoil := range map[string]func(c Copy) error{
		"a byte":           func(c Copy) error { return scribble(c.Image, 3*extent+12345, 1) },
		"a byte of a hole": func(c Copy) error { return scribble(c.Image, 2*extent+1, 1) },
		"the last byte":    func(c Copy) error { return scribble(c.Image, int64(c.Size)-1, 1) },
		"a longer image":   func(c Copy) error { return os.Truncate(c.Image, int64(c.Size)+1) },
		"a shorter image":  func(c Copy) error { return os.Truncate(c.Image, int64(c.Size)-1) },
		"no sums":          func(c Copy) error { return os.Truncate(sumsOf(c.Image), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			c, data := source(t)
			same(t, c, data)
			if err := spoil(c); err != nil {
				t.Fatal(err)
			}
			if err := c.Verify(t.Context()); !errors.Is(err, ErrDiffers) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, p := time.Now(), newPace(1<<20)
		for range 10 {
			if err := p.wait(t.Context(), 4<<20); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(begun); took != 40*time.Second {
			t.Errorf("40 MiB at 1 MiB a second took %v", took)
		}
		time.Sleep(time.Hour) // a disk that hangs
		begun = time.Now()
		for range 10 {
			_ = p.wait(t.Context(), 4<<20)
		}
		if took := time.Since(begun); took != 36*time.Second {
			t.Errorf("after a pause 40 MiB took %v", took)
		}
	})
}
