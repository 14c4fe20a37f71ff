package clone

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// extent is what one sum covers, in bytes.
	extent = 4 << 20
	// hole is the grain of holes, in bytes.
	hole = 64 << 10
	// batch is after how many extents the copy is made durable.
	batch = 16
)

// ErrDiffers: the image is not what the snapshot held.
var ErrDiffers = errors.New("the copy differs from the snapshot")

// Copy is the work on one image. It runs on a thread of its own in the idle I/O class; what the kernel writes back later is
// in the class of its own writer, which is why the rate can be limited too.
type Copy struct {
	Device string // the snapshot's
	Image  string
	Size   uint64 // bytes
	Rate   uint64 // bytes a second; 0: no limit
	// Progress is told how far the copy, or its verification, has got, in bytes.
	Progress func(done uint64)
}

// Run copies what is not yet there. It may be cancelled, or die, at any time, and be called again.
func (c Copy) Run(ctx context.Context) error {
	if err := idly(func() error { return c.run(ctx) }); err != nil {
		return fmt.Errorf("cannot copy %s to %s: %w", c.Device, c.Image, err)
	}
	return nil
}

// Verify reads the image back from its disk. ErrDiffers if it is not what the snapshot held.
func (c Copy) Verify(ctx context.Context) error {
	if err := idly(func() error { return c.verify(ctx) }); err != nil {
		return fmt.Errorf("cannot verify %s: %w", c.Image, err)
	}
	return nil
}

// idly runs work on a thread of the idle I/O class (ioprio_set(2)). The thread ends with it.
func idly(work func() error) error {
	const whoProcess, classIdle, classShift = 1, 3, 13
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, whoProcess, 0, classIdle<<classShift); errno != 0 {
			done <- fmt.Errorf("cannot enter the idle I/O class: %w", errno)
			return
		}
		done <- work()
	}()
	return <-done
}

func (c Copy) extents() int64 { return int64((c.Size + extent - 1) / extent) }

// span is the place of an extent.
func (c Copy) span(i int64) (offset int64, length int) {
	offset = i * extent
	return offset, int(min(extent, int64(c.Size)-offset))
}

func (c Copy) run(ctx context.Context) (err error) {
	device, err := os.Open(c.Device)
	if err != nil {
		return err
	}
	defer device.Close()
	image, sums, err := c.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, image.Close(), sums.Close()) }()
	next, err := c.resume(image, sums)
	if err != nil {
		return err
	}
	buf, p := make([]byte, extent), newPace(c.Rate)
	var pending []byte
	for i := next; i < c.extents(); i++ {
		offset, length := c.span(i)
		if _, err := io.ReadFull(io.NewSectionReader(device, offset, int64(length)), buf[:length]); err != nil {
			return err
		}
		if err := writeSparse(image, buf[:length], offset); err != nil {
			return err
		}
		sum := sha256.Sum256(buf[:length])
		pending = append(pending, sum[:]...)
		if len(pending) == batch*sha256.Size || i == c.extents()-1 {
			if err := durable(image, sums, pending); err != nil {
				return err
			}
			pending = pending[:0]
			forget(device)
			forget(image)
		}
		c.progress(offset + int64(length))
		if err := p.wait(ctx, length); err != nil {
			return err
		}
	}
	return nil
}

func (c Copy) open() (image, sums *os.File, err error) {
	if image, err = makeFile(c.Image); err != nil {
		return nil, nil, err
	}
	if sums, err = makeFile(sumsOf(c.Image)); err != nil {
		return nil, nil, errors.Join(err, image.Close())
	}
	return image, sums, nil
}

// resume finds the first extent to copy: behind the last one whose sum is written and fits the image. Whatever the image
// holds beyond is thrown away.
func (c Copy) resume(image, sums *os.File) (next int64, err error) {
	info, err := sums.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, extent)
	for next = min(info.Size()/sha256.Size, c.extents()); next > 0; next-- {
		ok, err := c.fits(image, sums, next-1, buf)
		if err != nil {
			return 0, err
		}
		if ok {
			break
		}
	}
	offset, _ := c.span(next)
	err = errors.Join(sums.Truncate(next*sha256.Size), image.Truncate(min(offset, int64(c.Size))), image.Truncate(int64(c.Size)))
	if err == nil {
		_, err = sums.Seek(0, io.SeekEnd)
	}
	return next, err
}

// fits compares an extent of the image with its sum. What is too short does not fit.
func (c Copy) fits(image, sums *os.File, i int64, buf []byte) (bool, error) {
	var want [sha256.Size]byte
	offset, length := c.span(i)
	_, err := image.ReadAt(buf[:length], offset)
	if err == nil {
		_, err = sums.ReadAt(want[:], i*sha256.Size)
	}
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	return err == nil && sha256.Sum256(buf[:length]) == want, err
}

var zeros [hole]byte

// writeSparse writes what is not zero.
func writeSparse(image *os.File, data []byte, offset int64) error {
	for len(data) > 0 {
		n := min(hole, len(data))
		if !bytes.Equal(data[:n], zeros[:n]) {
			if _, err := image.WriteAt(data[:n], offset); err != nil {
				return err
			}
		}
		data, offset = data[n:], offset+int64(n)
	}
	return nil
}

// durable writes sums, after what they vouch for.
func durable(image, sums *os.File, pending []byte) error {
	if err := image.Sync(); err != nil {
		return err
	}
	if _, err := sums.Write(pending); err != nil {
		return err
	}
	return sums.Sync()
}

// forget gives back the page cache that a copy has no use for; a kernel that will not loses nothing.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

func (c Copy) verify(ctx context.Context) error {
	image, err := openFile(c.Image, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer image.Close()
	sums, err := openFile(sumsOf(c.Image), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer sums.Close()
	info, err := image.Stat()
	if err != nil {
		return err
	}
	if uint64(info.Size()) != c.Size {
		return fmt.Errorf("%w: it has %d bytes, not %d", ErrDiffers, info.Size(), c.Size)
	}
	forget(image) // what is read below comes from the disk
	buf, p := make([]byte, extent), newPace(c.Rate)
	for i := range c.extents() {
		offset, length := c.span(i)
		ok, err := c.fits(image, sums, i, buf)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w between byte %d and %d", ErrDiffers, offset, offset+int64(length))
		}
		c.progress(offset + int64(length))
		if err := p.wait(ctx, length); err != nil {
			return err
		}
	}
	forget(image)
	return nil
}

func (c Copy) progress(done int64) {
	if c.Progress != nil {
		c.Progress(uint64(done))
	}
}

// pace keeps to a rate.
type pace struct {
	rate uint64
	due  time.Time
}

func newPace(rate uint64) *pace { return &pace{rate: rate, due: time.Now()} }

// wait until n bytes more may be done. Time that was lost to a slow disk is made up for by one step at most.
func (p *pace) wait(ctx context.Context, n int) error {
	if p.rate > 0 {
		step := time.Duration(float64(n) / float64(p.rate) * float64(time.Second))
		if late := time.Now().Add(-step); p.due.Before(late) {
			p.due = late
		}
		p.due = p.due.Add(step)
		select {
		case <-time.After(time.Until(p.due)):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}
