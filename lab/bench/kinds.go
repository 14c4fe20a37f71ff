package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
)

// group is volumes of one provider, and how they are armed for a floor.
type group struct {
	*stage
	kind     string // the provider's name
	vols     []volume
	provider provider.Provider // nil: there is no floor
	capture  func(ctx context.Context, v volume, set string) (*dm.Call, error)
}

// kinds are the providers that can be measured, with one volume each, but thin with as many as are asked for.
var kinds = map[string]func(s *stage, g *group) error{
	"thin": func(s *stage, g *group) error {
		g.provider, g.capture = provider.NewThin(s.control, s.lvm, provider.Reserve{Data: share("5%"), Metadata: share("10%")}), s.captureThin
		for i := range maxVolumes {
			if err := s.thin(g, fmt.Sprintf("thin%d", i)); err != nil {
				return err
			}
		}
		return nil
	},
	"thick": func(s *stage, g *group) error {
		g.provider, g.capture = provider.NewThick(s.control, s.lvm, cow, share("0")), s.captureTable
		_, err := s.logical(g, "thick", "ext4", "256m")
		return err
	},
	"dm": func(s *stage, g *group) error {
		storage := group{stage: s}
		point, err := s.logical(&storage, "storage", "ext4", "256m")
		if err != nil {
			return err
		}
		if err := os.Chmod(point, 0o700); err != nil {
			return err
		}
		if err := s.configure("dm", "storage: "+point+"\ncow: "+cow.String()+"\n"); err != nil {
			return err
		}
		g.provider, g.capture = provider.NewDM(s.control, provider.DMOptions{Storage: point, COW: cow, Reserve: share("5%")}), s.captureTable
		return s.mapped(g, "mapped", "256m")
	},
	"btrfs": func(s *stage, g *group) error {
		const plugin = "/usr/lib/fermata/providers/fermata-provider-btrfs"
		if err := s.configure("btrfs", "type: plugin\ncommand: ["+plugin+"]\n"); err != nil {
			return err
		}
		point, err := s.logical(g, "btrfs", "btrfs", "300m")
		if err != nil {
			return err
		}
		image := filepath.Join(point, "snap")
		g.vols[0].take, g.vols[0].drop = []string{"btrfs", "subvolume", "snapshot", "-r", point, image}, []string{"btrfs", "subvolume", "delete", image}
		return nil
	},
}

// order is that of the rows.
var order = []string{"thin", "thick", "dm", "btrfs"}

// thin adds a thin volume.
func (s *stage) thin(g *group, lv string) error {
	if _, err := command("lvcreate", "-qq", "-y", "--virtualsize", "256m", "--thin", "--name", lv, vg+"/pool"); err != nil {
		return err
	}
	_, err := s.mount(g, volume{lv: lv, fstype: "ext4", device: "/dev/" + vg + "/" + lv, take: snapshotOf(lv), drop: removalOf(lv)}, dm.JoinLVMName(vg, lv, ""))
	return err
}

// logical adds a plain logical volume.
func (s *stage) logical(g *group, lv, fstype, size string) (point string, err error) {
	if _, err := command("lvcreate", "-qq", "-y", "--size", size, "--name", lv, vg); err != nil {
		return "", err
	}
	v := volume{lv: lv, fstype: fstype, device: "/dev/" + vg + "/" + lv, take: append(snapshotOf(lv), "--extents", "10%ORIGIN"), drop: removalOf(lv)}
	return s.mount(g, v, dm.JoinLVMName(vg, lv, ""))
}

// mapped adds a device-mapper volume that LVM does not know, on a logical one.
func (s *stage) mapped(g *group, name, size string) error {
	if _, err := command("lvcreate", "-qq", "-y", "--size", size, "--name", name, vg); err != nil {
		return err
	}
	device := vg + "." + name
	sectors, err := command("blockdev", "--getsz", "/dev/"+vg+"/"+name)
	if err != nil {
		return err
	}
	table := fmt.Sprintf("0 %.*s linear /dev/%s/%s 0", len(sectors)-1, sectors, vg, name)
	if _, err := command("dmsetup", "create", device, "--verifyudev", "--table", table); err != nil {
		return err
	}
	s.undo.add(func() error { _, err := command("dmsetup", "remove", "--retry", "--verifyudev", device); return err })
	_, err = s.mount(g, volume{lv: device, fstype: "ext4", device: "/dev/mapper/" + device}, device)
	return err
}

func snapshotOf(lv string) []string {
	return []string{"lvcreate", "-qq", "-y", "--snapshot", "--name", lv + "-snap", vg + "/" + lv}
}

func removalOf(lv string) []string {
	return []string{"lvremove", "-qq", "-y", "-f", vg + "/" + lv + "-snap"}
}

// mount makes a filesystem on a volume, mounts it, and adds it to the group.
func (s *stage) mount(g *group, v volume, device string) (point string, err error) {
	mkfs := []string{"mkfs." + v.fstype, "-q", v.device}
	if v.fstype == "ext4" { // nothing may be left to be written later in the background
		mkfs = append(mkfs, "-E", "lazy_itable_init=0,lazy_journal_init=0")
	}
	if _, err := command(mkfs...); err != nil {
		return "", err
	}
	info, err := s.control.Info(dm.ByName(device))
	if err != nil {
		return "", err
	}
	point = filepath.Join(s.mounts, v.lv)
	if err := os.Mkdir(point, 0o755); err != nil {
		return "", err
	}
	v.of = provider.Volume{Dev: info.Dev, Device: info.Name, UUID: info.UUID, MountPoint: point, FSType: v.fstype}
	if err := v.mount(); err != nil {
		return "", err
	}
	s.undo.add(v.unmount)
	size, err := size(v.device)
	if err != nil {
		return "", err
	}
	v.of.Size = size
	if g.provider != nil {
		claim, err := g.provider.Claim(v.of)
		if err != nil {
			return "", err
		}
		v.of.Name = claim.Name
	}
	g.vols = append(g.vols, v)
	return point, nil
}

// size is a device's, in bytes.
func size(device string) (uint64, error) {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot open %s: %w", device, err)
	}
	n, err := unix.Seek(fd, 0, unix.SEEK_END)
	return uint64(n), errors.Join(err, unix.Close(fd))
}

// configure gives the daemon a provider's settings, which it reads when it starts.
func (s *stage) configure(name, text string) error {
	path := "/etc/fermata/providers.d/" + name + ".yaml"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot configure provider %s for the time of the run (leave it out: --providers): %w", name, err)
	}
	restart := func() error { _, err := command("systemctl", "restart", "fermatad"); return err }
	s.undo.add(func() error { return errors.Join(os.Remove(path), restart()) })
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close(), restart())
}

// share reads a constant.
func share(text string) config.Space {
	s, err := config.ParseSpace(text)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return s
}

// cow is how large the copy-on-write areas are, those of lvcreate too: the default of the configuration.
var cow = func() config.COW {
	c, err := config.ParseCOW("10%")
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return c
}()
