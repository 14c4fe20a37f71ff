package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/hooks/child"
)

// renewTime bounds btrfstune, which rewrites the superblocks only.
const renewTime = time.Minute

// RenewID gives an image of a btrfs an id of its own. Before Linux 6.7 the kernel refuses to mount two filesystems with
// one id: an image beside its origin could not be mounted at all. The id is changed in the superblock alone, as
// btrfstune(8) -m does, on a throw-away copy: never on the snapshot.
func (System) RenewID(ctx context.Context, device string) error {
	for _, program := range []string{"/usr/bin/btrfstune", "/usr/sbin/btrfstune", "/bin/btrfstune", "/sbin/btrfstune"} {
		if _, err := os.Stat(program); err != nil {
			continue
		}
		if err := ownership.File(program); err != nil {
			return fmt.Errorf("cannot give the btrfs on %s an id of its own: %w", device, err)
		}
		return renewID(ctx, program, device)
	}
	return errors.New("cannot give the image of a btrfs an id of its own: btrfstune is not there (is the package btrfs-progs installed?)")
}

// renewID runs btrfstune.
func renewID(ctx context.Context, program, device string) error {
	err := finish(ctx, renewTime, child.Command{
		Path: program, Args: []string{filepath.Base(program), "-f", "-m", device},
		Env:      []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"},
		Orphaned: syscall.SIGKILL, Whole: true,
	})
	if err != nil {
		return fmt.Errorf("cannot give the btrfs on %s an id of its own: %w", device, err)
	}
	return nil
}

// finish runs a program to its end. One that a disk keeps from ending after SIGKILL is waited for no longer.
func finish(ctx context.Context, limit time.Duration, c child.Command) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, lateAfter(limit))
	defer cancel()
	p, err := child.Start(c)
	if err != nil {
		return err
	}
	select {
	case <-p.Exited:
	case <-ctx.Done():
		p.Kill()
		return errors.Join(context.Cause(ctx), p.Buried(child.ReapGrace))
	}
	if status := p.Status(); !status.Success() {
		p.Settle()
		return fmt.Errorf("%s failed%s", c.Path, p.Explain(p.Words.String()))
	}
	return nil
}
