package provider

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/dm"
)

// Measurer is a provider that can tell what each volume has in a pool, from a snapshot of the pool's metadata, of which a pool can
// have one. Hold and Release change the pool; Shares only reads.
type Measurer interface {
	// Hold takes the snapshot of the metadata of a pool, by its device-mapper name. unix.EBUSY: there is one, of somebody else.
	Hold(device string) error
	// Release gives it up. That there is none is no error.
	Release(device string) error
	// Shares tells what the volumes of a pool have, by name (vg/lv).
	Shares(ctx context.Context, device string) (map[string]Used, error)
}

// Used is what a volume has in its pool, in bytes: all that is mapped, and of it what nobody else has.
type Used struct{ Mapped, Own uint64 }

// ErrNoTool: a program that is needed is not installed.
var ErrNoTool = errors.New("thin_ls is not installed (package thin-provisioning-tools)")

// Hold implements Measurer (reserve_metadata_snap in Documentation/admin-guide/device-mapper/thin-provisioning.rst).
func (p *Thin) Hold(device string) error {
	if err := p.control.Message(dm.ByName(device), 0, "reserve_metadata_snap"); err != nil {
		return fmt.Errorf("cannot take a snapshot of the pool's metadata: %w", err)
	}
	return nil
}

// Release implements Measurer.
func (p *Thin) Release(device string) error {
	info, err := p.control.Info(dm.ByName(device))
	if errors.Is(err, unix.ENXIO) {
		return nil
	}
	if err != nil {
		return err
	}
	s, _, err := p.poolStatus(info.Dev)
	if err != nil || s.HeldRoot == 0 {
		return err
	}
	if err := p.control.Message(dm.ByName(device), 0, "release_metadata_snap"); err != nil {
		return fmt.Errorf("cannot give up the snapshot of the pool's metadata: %w (dmsetup message %s 0 release_metadata_snap)", err, device)
	}
	return nil
}

// Shares implements Measurer, by thin_ls(8). Killed with ctx, it leaves nothing behind: it only reads.
func (p *Thin) Shares(ctx context.Context, device string) (map[string]Used, error) {
	tool, err := thinLS()
	if err != nil {
		return nil, err
	}
	targets, _, err := p.control.Table(dm.ByName(device))
	if err != nil {
		return nil, err
	}
	if len(targets) != 1 || targets[0].Type != "thin-pool" {
		return nil, fmt.Errorf("%s is no thin pool", device)
	}
	t, err := dm.ParseThinPoolTable(targets[0].Params)
	if err != nil {
		return nil, err
	}
	info, err := p.control.Info(dm.ByDev(t.Metadata))
	if err != nil {
		return nil, err
	}
	if err := dm.EnsureNode(info.Name, info.Dev); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, tool, "--metadata-snap", "--no-headers", "--format", "DEV,MAPPED_BYTES,EXCLUSIVE_BYTES", dm.NodePath(info.Name))
	cmd.Env, cmd.Dir = []string{"LC_ALL=C"}, "/"
	stdout, stderr := &bounded{max: 4 << 20}, &bounded{max: 4 << 10}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("cannot measure what is in the pool: thin_ls: %w: %.300s", err, strings.TrimSpace(stderr.String()))
	}
	byID, err := parseShares(stdout.String())
	if err != nil {
		return nil, err
	}
	return p.nameShares(ctx, device, byID)
}

// nameShares finds the volumes of thin device ids.
func (p *Thin) nameShares(ctx context.Context, device string, byID map[uint32]Used) (map[string]Used, error) {
	pool := poolName(device)
	inventory, err := p.lvm.Report(ctx, groupOf(pool))
	if err != nil {
		return nil, err
	}
	out := map[string]Used{}
	for _, lv := range inventory.LVs {
		if lv.ThinID == nil || lv.VG+"/"+lv.Pool != pool {
			continue
		}
		if u, ok := byID[*lv.ThinID]; ok {
			out[lv.FullName()] = u
		}
	}
	return out, nil
}

// thinLS finds the program where distributions put it.
func thinLS() (string, error) {
	for _, path := range []string{"/usr/sbin/thin_ls", "/sbin/thin_ls", "/usr/bin/thin_ls"} {
		_, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = ownership.File(path)
		}
		return path, err
	}
	return "", ErrNoTool
}

// parseShares reads lines of "ID MAPPED EXCLUSIVE".
func parseShares(text string) (map[uint32]Used, error) {
	out := map[uint32]Used{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var n [3]uint64
		for i := range n {
			var err error
			if len(words) == len(n) {
				n[i], err = strconv.ParseUint(words[i], 10, 64)
			}
			if len(words) != len(n) || err != nil || i == 0 && n[0] >= 1<<24 {
				return nil, fmt.Errorf("cannot measure what is in the pool: thin_ls says %.80q", line)
			}
		}
		out[uint32(n[0])] = Used{Mapped: n[1], Own: n[2]}
	}
	return out, nil
}

// bounded keeps the first max bytes; more is an error.
type bounded struct {
	bytes.Buffer
	max int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		return 0, fmt.Errorf("it says more than %d bytes", b.max)
	}
	return b.Buffer.Write(p)
}
