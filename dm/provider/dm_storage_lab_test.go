//go:build lab

package provider_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/lab/labtest"
)

// dmStorage makes the bench's device /dev/mapper/storage a storage volume, for as long as the test takes.
type dmStorage interface {
	make(t *testing.T, b *dmBench)
	// fill leaves so many bytes of room.
	fill(t testing.TB, b *dmBench, left uint64)
	// stop makes it read-only, mend undoes that.
	stop(t testing.TB, b *dmBench)
	mend(t testing.TB, b *dmBench)
	// reboot takes what a reboot takes, apart from devices.
	reboot(t testing.TB, b *dmBench)
}

var dmStorages = map[string]func() dmStorage{
	"directory": func() dmStorage { return &onDirectory{} },
	"device":    func() dmStorage { return &onDevice{} },
}

func onEach(t *testing.T, test func(t *testing.T, b *dmBench)) {
	for name, storage := range dmStorages {
		t.Run(name, func(t *testing.T) { test(t, newDMBenchOn(t, storage())) })
	}
}

type onDirectory struct{}

func (*onDirectory) make(t *testing.T, b *dmBench) {
	b.records = "/srv/storage"
	b.options.Storage = b.records
	labtest.Run(t, "mkfs.ext4", "-q", "/dev/mapper/storage")
	if err := os.MkdirAll(b.records, 0o755); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "mount", "/dev/mapper/storage", b.records)
	t.Cleanup(func() { labtest.Run(t, "umount", b.records) })
}

func (*onDirectory) fill(t testing.TB, b *dmBench, left uint64) {
	t.Helper()
	var fs unix.Statfs_t
	if err := unix.Statfs(b.records, &fs); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "fallocate", "-l", fmt.Sprint((fs.Bavail*uint64(fs.Bsize))-left), filepath.Join(b.records, "filler"))
}

// stop makes the storage read-only, as its filesystem does when its disk fails.
func (*onDirectory) stop(t testing.TB, b *dmBench) {
	t.Helper()
	labtest.Run(t, "mount", "--bind", b.records, b.records)
	labtest.Run(t, "mount", "-o", "remount,bind,ro", b.records)
}

func (*onDirectory) mend(t testing.TB, b *dmBench) { labtest.Run(t, "umount", b.records) }

func (*onDirectory) reboot(testing.TB, *dmBench) {}

type onDevice struct{}

func (*onDevice) make(t *testing.T, b *dmBench) {
	b.records = "/run/storage-records"
	b.options.Storage, b.options.Run = "/dev/mapper/storage", b.records
	labtest.Run(t, "wipefs", "-a", "-q", "/dev/mapper/storage")
	labtest.Run(t, "dd", "if=/dev/zero", "of=/dev/mapper/storage", "bs=1M", "count=1", "status=none", "conv=fsync")
	labtest.Run(t, "dd", "if=/dev/zero", "of=/dev/mapper/storage", "bs=1M", "seek=599", "count=1", "status=none", "conv=fsync")
	t.Cleanup(func() { os.RemoveAll(b.records) })
}

// fill makes an area that is nobody's snapshot's.
func (*onDevice) fill(t testing.TB, b *dmBench, left uint64) {
	t.Helper()
	labtest.Run(t, "dmsetup", "create", "filler", "--uuid", "FERMATA-cow-filler", "--verifyudev", "--table",
		fmt.Sprintf("0 %d linear /dev/mapper/storage %d", (598-left>>20)*mebi, mebi))
	b.made["filler"] = true
	t.Cleanup(func() { labtest.Run(t, "dmsetup", "remove", "--verifyudev", "filler") })
}

func (*onDevice) stop(t testing.TB, _ *dmBench) {
	labtest.Run(t, "blockdev", "--setro", "/dev/mapper/storage")
}

func (*onDevice) mend(t testing.TB, _ *dmBench) {
	labtest.Run(t, "blockdev", "--setrw", "/dev/mapper/storage")
}

func (*onDevice) reboot(t testing.TB, b *dmBench) { labtest.Run(t, "rm", "-r", b.records) }
