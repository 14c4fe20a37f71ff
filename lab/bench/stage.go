package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
)

const (
	vg         = "fermata-bench"
	maxVolumes = 8
)

// volume is a thin volume with a mounted, idle ext4 filesystem.
type volume struct {
	lv, point string
	dev, pool dm.Dev
	id        uint32 // thin device id
}

// stage is what the contenders perform on: a volume group of its own, and two groups of volumes in one thin pool. The
// classic recipe has volumes of its own because it poisons them.
type stage struct {
	disk          string
	control       *dm.Control
	lvm           *lvm.LVM
	mounts        string // directory
	calm, classic []volume
}

func newStage(disk string) (s *stage, err error) {
	s = &stage{disk: disk, lvm: lvm.New(lvm.Options{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.control, err = dm.Open(); err != nil {
		return s, err
	}
	if s.mounts, err = os.MkdirTemp("/run", "fermata-bench-"); err != nil {
		return s, err
	}
	for _, argv := range [][]string{
		{"pvcreate", "-qq", "-y", disk},
		{"vgcreate", "-qq", vg, disk},
		{"lvcreate", "-qq", "-y", "--extents", "80%FREE", "--thinpool", vg + "/pool", "--poolmetadatasize", "16m"},
	} {
		if _, err := command(argv...); err != nil {
			return s, err
		}
	}
	if s.calm, err = s.volumes("calm"); err != nil || !survivesClassic(release()) {
		return s, err
	}
	s.classic, err = s.volumes("classic")
	return s, err
}

// volumes makes one group of them.
func (s *stage) volumes(prefix string) ([]volume, error) {
	var out []volume
	for i := range maxVolumes {
		v := volume{lv: fmt.Sprintf("%s%d", prefix, i)}
		v.point = filepath.Join(s.mounts, v.lv)
		if _, err := command("lvcreate", "-qq", "-y", "--virtualsize", "256m", "--thin", "--name", v.lv, vg+"/pool"); err != nil {
			return out, err
		}
		// Nothing may be left to be written later in the background.
		if _, err := command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", v.device()); err != nil {
			return out, err
		}
		if err := os.Mkdir(v.point, 0o755); err != nil {
			return out, err
		}
		if err := v.mount(); err != nil {
			return out, err
		}
		info, err := s.control.Info(dm.ByName(dm.JoinLVMName(vg, v.lv, "")))
		if err != nil {
			return out, err
		}
		targets, _, err := s.control.Table(dm.ByDev(info.Dev))
		if err != nil {
			return out, err
		}
		t, err := dm.ParseThinTable(targets[0].Params)
		if err != nil {
			return out, err
		}
		v.dev, v.pool, v.id = info.Dev, t.Pool, t.ID
		out = append(out, v)
	}
	return out, nil
}

func (v volume) device() string { return "/dev/" + vg + "/" + v.lv }

func (v volume) mount() error {
	if err := unix.Mount(v.device(), v.point, "ext4", 0, ""); err != nil {
		return fmt.Errorf("cannot mount %s: %w", v.device(), err)
	}
	return nil
}

func (v volume) unmount() error {
	if err := unix.Unmount(v.point, 0); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", v.point, err)
	}
	return nil
}

// close removes everything again.
func (s *stage) close() error {
	var errs []error
	for _, v := range append(s.calm, s.classic...) {
		errs = append(errs, v.unmount())
	}
	if _, err := os.Stat("/dev/" + vg); err == nil {
		_, err := command("vgremove", "-qq", "-ff", "-y", vg)
		errs = append(errs, err)
	}
	if s.mounts != "" {
		errs = append(errs, os.RemoveAll(s.mounts))
	}
	if s.control != nil {
		errs = append(errs, s.control.Close())
	}
	return errors.Join(errs...)
}

// perform lets the contenders take their turns until all are done, or time is up.
func (s *stage) perform(ctx context.Context, sizes []int, scale float64, until time.Time) (*report, error) {
	contenders := []contender{floor{s, false}, floor{s, true}, fermata{s}, lvcreate{s}}
	if s.classic != nil {
		contenders = append(contenders, classic{s})
	}
	var turns []turn
	for _, n := range sizes {
		for _, c := range contenders {
			turns = append(turns, turn{contender: c, volumes: n, times: max(1, int(scale*float64(c.rounds(n))+0.5))})
		}
	}
	// The first of each pays for what is loaded and started once.
	for _, c := range contenders {
		if _, err := c.round(ctx, 1); err != nil {
			return nil, fmt.Errorf("%s, 1 volume: %w", c.name(), err)
		}
	}
	r := newReport()
	order := interleave(turns)
	for i, t := range order {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		got, err := t.contender.round(ctx, t.volumes)
		if err != nil {
			return nil, fmt.Errorf("%s, %d volumes: %w", t.contender.name(), t.volumes, err)
		}
		r.add(t.contender.name(), t.volumes, got)
		late := time.Now().After(until)
		if (i+1)%20 == 0 || i+1 == len(order) || late {
			fmt.Fprintf(os.Stderr, "%s round %d of %d\n", time.Now().Format(time.TimeOnly), i+1, len(order))
		}
		if late {
			break
		}
	}
	return r, nil
}

// command runs a program and returns its standard output.
func command(argv ...string) ([]byte, error) {
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "LC_ALL=C")
	out, err := c.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return out, fmt.Errorf("cannot run %s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return out, fmt.Errorf("cannot run %s: %w", argv[0], err)
	}
	return out, nil
}

func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// survivesClassic: before Linux 6.8 the suspend of lvcreate fails on a frozen filesystem.
func survivesClassic(release string) bool {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 6 || major == 6 && minor >= 8
}
