package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// renewTime bounds btrfstune, which rewrites the superblocks only.
const renewTime = time.Minute

// RenewID gives an image of a btrfs an id of its own. Before Linux 6.7 the kernel refuses to mount two filesystems with
// one id: an image beside its origin could not be mounted at all. The id is changed in the superblock alone, as
// btrfstune(8) -m does, on a throw-away copy: never on the snapshot.
func (System) RenewID(ctx context.Context, device string) error {
	program := ""
	for _, path := range []string{"/usr/bin/btrfstune", "/usr/sbin/btrfstune", "/bin/btrfstune", "/sbin/btrfstune"} {
		if _, err := os.Stat(path); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		return errors.New("cannot give the image of a btrfs an id of its own: btrfstune is not there (is the package btrfs-progs installed?)")
	}
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	c := exec.CommandContext(ctx, program, "-f", "-m", device)
	c.Env, c.Dir = []string{"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, "/"
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		text := strings.TrimSpace(string(out))
		if len(text) > 300 {
			text = text[len(text)-300:]
		}
		return fmt.Errorf("cannot give the btrfs on %s an id of its own: %w: %s", device, err, text)
	}
	return nil
}
