package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// makeVolumes makes the storage of an ordinary database host: one volume group, one thin pool, two filesystems.
func makeVolumes(ctx context.Context, d *demo) error {
	d.disks = strings.Fields(os.Getenv("LAB_DISKS"))
	if len(d.disks) < 2 {
		return errors.New("two fresh disks are needed: run it by \"make demo\"")
	}
	for _, command := range []string{
		"vgcreate -qq db " + strings.Join(d.disks, " "),
		"lvcreate -qq --type thin-pool --size 4G --name pool db",
		"lvcreate -qq --virtualsize 2G --thinpool db/pool --name data",
		"lvcreate -qq --virtualsize 1G --thinpool db/pool --name fast",
		"mkfs.ext4 -q /dev/db/data && mkdir -p /srv/pg && mount /dev/db/data /srv/pg",
		"mkfs.xfs -q /dev/db/fast && mkdir -p /srv/fast && mount /dev/db/fast /srv/fast",
		"lvs db",
	} {
		if err := d.run(ctx, command); err != nil {
			return err
		}
	}
	var err error
	d.before, err = look(ctx, d.transcript)
	return err
}

// storage is everything that a snapshot set could leave behind, by kind.
type storage map[string]string

func look(ctx context.Context, t *transcript) (storage, error) {
	found := storage{}
	for kind, command := range map[string]string{
		"logical volumes":      "lvs -a --noheadings -o lv_full_name,lv_attr,lv_tags",
		"device-mapper tables": "dmsetup table | sort",
		"mounts":               "awk '$1 ~ /^.dev/' /proc/mounts; ls -A /run/fermata/mnt",
	} {
		out, err := t.output(ctx, command)
		if err != nil {
			return nil, err
		}
		found[kind] = out
	}
	return found, nil
}

// differs is nil if both are the same.
func (s storage) differs(now storage) error {
	var errs []error
	for kind, was := range s {
		if now[kind] != was {
			errs = append(errs, fmt.Errorf("%s were:\n%sand now are:\n%s", kind, was, now[kind]))
		}
	}
	return errors.Join(errs...)
}
