package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/hooks/child"
)

// checkers are the programs that look at a filesystem and change nothing; the device is added.
var checkers = map[string][]string{
	"ext2": {"/usr/sbin/e2fsck", "-fn"}, "ext3": {"/usr/sbin/e2fsck", "-fn"}, "ext4": {"/usr/sbin/e2fsck", "-fn"},
	"xfs": {"/usr/sbin/xfs_repair", "-n"}, "btrfs": {"/usr/bin/btrfs", "check", "--readonly"},
}

// checkTime bounds a check: it reads all metadata.
const checkTime = 6 * time.Hour

// CheckFilesystem mounts the image where nobody sees it, so that the kernel replays its journal, and then has the
// filesystem's own checker look at it. A filesystem that has none was at least mounted.
func (System) CheckFilesystem(ctx context.Context, s *child.Stage) error {
	m := s.Mounts[0]
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	p, err := child.Start(child.Command{Path: "/bin/true", Args: []string{"true"}, Stage: s})
	if err == nil {
		err = p.Struck(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot mount the image of %s: %w", m.Path, err)
	}
	check := checkers[m.FSType]
	if check == nil {
		return nil
	}
	if _, err := os.Stat(check[0]); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := ownership.File(check[0]); err != nil {
		return err
	}
	err = finish(ctx, checkTime, child.Command{
		Path: check[0], Args: append(slices.Clone(check), m.Device), Env: []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Orphaned: syscall.SIGKILL, Whole: true,
	})
	if err != nil {
		return fmt.Errorf("the filesystem of %s is damaged, or cannot be checked: %w", m.Path, err)
	}
	return nil
}
