//go:build lab

package fsfreeze

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/lab/labtest"
)

// inSwap is how much of this process is in swap, and how much in memory, in KiB.
func inSwap(t *testing.T) (swapped, resident uint64) {
	t.Helper()
	own, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	mappings, err := parseMappings(own)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mappings {
		swapped += m.swapped
	}
	var use unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return swapped, uint64(use.Maxrss)
}

// What has been swapped out since the last set is back before the window, and what was never touched costs nothing.
func TestPinMemoryReadsSwap(t *testing.T) {
	disk := labtest.Disks(t)[0]
	labtest.Run(t, "mkswap", "-q", disk)
	labtest.Run(t, "swapon", disk)
	t.Cleanup(func() {
		labtest.Run(t, "swapoff", disk)
		labtest.Run(t, "wipefs", "-qa", disk)
	})
	const touched, all = 8 << 20, 128 << 20
	b, err := unix.Mmap(-1, 0, all, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(b)
	for i := 0; i < touched; i += 64 {
		b[i] = byte(i >> 12)
	}
	want := slices.Clone(b[:touched])
	if err := unix.Madvise(b[:touched], unix.MADV_PAGEOUT); err != nil {
		t.Fatal(err)
	}
	before, resident := inSwap(t)
	if before < touched>>11 { // half of it
		t.Fatalf("only %d KiB were swapped out", before)
	}
	unlock, err := LockMemory()
	if err != nil {
		t.Fatal(err)
	}
	after, now := inSwap(t)
	if err := errors.Join(unlock()); err != nil {
		t.Error(err)
	}
	t.Logf("swapped out: %d KiB, then %d KiB; in memory at most %d KiB, then %d KiB", before, after, resident, now)
	if after != 0 {
		t.Errorf("%d KiB are still in swap", after)
	}
	if now > resident+touched>>10+16<<10 {
		t.Errorf("it takes %d KiB, and took %d before", now, resident)
	}
	if !slices.Equal(want, b[:touched]) {
		t.Error("the memory has changed")
	}
}
