package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
	"github.com/fermata-project/fermata/dm/provider"
)

const (
	vg         = "fermata-bench"
	maxVolumes = 8
)

// volume is a volume with a mounted, idle filesystem.
type volume struct {
	lv, device, fstype string
	of                 provider.Volume
	take, drop         []string // commands: a snapshot without Fermata, and its removal; nil: there is no such thing
}

// stage is what the contenders perform on: a volume group of its own, with a thin pool, and a group of volumes for each
// provider. The classic recipe has thin volumes of its own because it poisons them.
type stage struct {
	control *dm.Control
	lvm     *lvm.LVM
	mounts  string // directory
	groups  []*group
	classic *group // nil: this kernel does not survive it
	undo    undo
}

func newStage(disk string, names []string) (s *stage, err error) {
	s = &stage{lvm: lvm.New(lvm.Options{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.control, err = dm.Open(); err != nil {
		return s, err
	}
	s.undo.add(s.control.Close)
	if s.mounts, err = os.MkdirTemp("/run", "fermata-bench-"); err != nil {
		return s, err
	}
	s.undo.add(func() error { return os.RemoveAll(s.mounts) })
	for _, argv := range [][]string{
		{"pvcreate", "-qq", "-y", disk},
		{"vgcreate", "-qq", vg, disk},
		{"lvcreate", "-qq", "-y", "--extents", "75%FREE", "--thinpool", vg + "/pool", "--poolmetadatasize", "16m"},
	} {
		if _, err := command(argv...); err != nil {
			return s, err
		}
		if argv[0] == "vgcreate" {
			s.undo.add(func() error { _, err := command("vgremove", "-qq", "-ff", "-y", vg); return err })
		}
	}
	for _, name := range names {
		g := &group{stage: s, kind: name}
		if err := kinds[name](s, g); err != nil {
			return s, err
		}
		s.groups = append(s.groups, g)
	}
	if !survivesClassic(release()) || !slices.Contains(names, "thin") {
		return s, nil
	}
	g := &group{stage: s, kind: "thin"}
	for i := range maxVolumes {
		if err := s.thin(g, fmt.Sprintf("classic%d", i)); err != nil {
			return s, err
		}
	}
	s.classic = g
	return s, nil
}

func (v volume) mount() error {
	if err := unix.Mount(v.device, v.of.MountPoint, v.fstype, 0, ""); err != nil {
		return fmt.Errorf("cannot mount %s: %w", v.device, err)
	}
	return nil
}

func (v volume) unmount() error {
	if err := unix.Unmount(v.of.MountPoint, 0); err != nil {
		return fmt.Errorf("cannot unmount %s: %w", v.of.MountPoint, err)
	}
	return nil
}

// close removes everything again.
func (s *stage) close() error { return s.undo.all() }

// turns are what is to be done: sets of several sizes of thin volumes, and of one volume of the other providers; each
// once more with the application watched.
func (s *stage) turns(sizes []int, scale float64) []turn {
	var all []turn
	add := func(g *group, n int, c contender) {
		all = append(all, turn{contender: c, kind: g.kind, volumes: n, times: max(1, int(scale*float64(c.rounds(n))+0.5))})
	}
	for _, g := range s.groups {
		of := []int{1}
		if g.kind == "thin" {
			of = sizes
		}
		actors := []contender{fermata{g}}
		if g.vols[0].take != nil {
			actors = append(actors, plain{g})
		}
		for _, n := range of {
			if g.provider != nil {
				add(g, n, floor{g, false})
				add(g, n, floor{g, true})
			}
			for _, c := range actors {
				add(g, n, c)
			}
			if g.kind == "thin" && s.classic != nil {
				add(g, n, classic{s.classic})
			}
		}
		for _, c := range append(actors, nothing{}) {
			add(g, 1, watched{c, g.vols[0].of.MountPoint})
		}
	}
	return all
}

// perform lets the contenders take their turns until all are done, or time is up.
func (s *stage) perform(ctx context.Context, turns []turn, until time.Time) (*report, error) {
	// The first of each pays for what is loaded and started once.
	for _, t := range turns {
		if t.volumes > 1 {
			continue
		}
		if _, err := t.contender.round(ctx, 1); err != nil {
			return nil, t.failed(err)
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
			return nil, t.failed(err)
		}
		r.add(t.kind, t.contender.name(), t.volumes, got)
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
