package provider

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/dm"
)

// Names and uuids of DM's own devices. LVM allows no @ in a name, so none of its devices can be called so; the uuids are
// what the devices are known by.
//
//	fermata@253:0-real          the origin's table, once for all its snapshots   FERMATA-real-253:0
//	fermata@data.20261120…      the snapshot                                     FERMATA-snap-253:0-20261120…
//	fermata@data.20261120…-cow  where it keeps what was overwritten              FERMATA-cow-253:0-20261120…
const (
	ownName  = "fermata@"
	ownUUID  = "FERMATA-"
	realUUID = ownUUID + "real-"
	snapUUID = ownUUID + "snap-"
	cowUUID  = ownUUID + "cow-"
	cowEnd   = "-cow"
)

func realName(origin dm.Dev) string { return ownName + origin.String() + "-real" }

// DMSnapshot is what provider DM calls the snapshot whose device this is; ok is false if it is none of its snapshots.
func DMSnapshot(device, uuid string) (name string, ok bool) {
	name, ok = strings.CutPrefix(device, ownName)
	return name, ok && strings.HasPrefix(uuid, snapUUID)
}

// originOf reads the origin's device number from the uuid of a device of ours.
func originOf(uuid string) (dm.Dev, bool) {
	for _, kind := range []string{realUUID, snapUUID, cowUUID} {
		if rest, ok := strings.CutPrefix(uuid, kind); ok {
			number, _, _ := strings.Cut(rest, "-")
			dev, err := dm.ParseDev(number)
			return dev, err == nil
		}
	}
	return 0, false
}

// dmSnapshotName names the snapshot of a device: the device's name, without what cannot stand in a name that we give and
// shortened if need be, and the set's id. i tells volumes of one set apart whose names were changed.
func dmSnapshotName(device, id string, i int) string {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789#+-.:=@_"
	short := strings.Map(func(r rune) rune {
		if strings.ContainsRune(allowed, r) {
			return r
		}
		return '_'
	}, device)
	end := "." + id
	if len(ownName+short+end+cowEnd) > maxDMName || short != device {
		end = fmt.Sprintf(".%d.%s", i, id)
		short = short[:min(len(short), maxDMName-len(ownName+end+cowEnd))]
	}
	return short + end
}

// copied are the targets that a second device can map at the same time: they keep nothing on their disks, and nothing in
// memory that two of them could disagree on.
var copied = []string{"linear", "striped", "unstriped", "delay", "flakey"}

// whyNot are the reasons for the targets that are asked for most.
var whyNot = map[string]string{
	"crypt":           "its table holds a key, which Fermata does not copy: take the volume below it, or one of LVM on it",
	"integrity":       "its table can hold a key, which Fermata does not copy",
	"multipath":       "the kernel lets no other target take the place of multipath (DM_TARGET_IMMUTABLE): take a volume on it",
	"thin":            "it is a thin volume: its pool can snapshot it",
	"thin-pool":       "it is a thin pool",
	"snapshot":        "it is a snapshot itself",
	"snapshot-merge":  "it is a snapshot itself",
	"snapshot-origin": "somebody else takes snapshots of it",
	"verity":          "it cannot be written to",
}

// copyable is nil if all targets of a table can be mapped a second time.
func copyable(types []string) error {
	if len(types) == 0 {
		return errors.New("it has no table")
	}
	for _, t := range types {
		if slices.Contains(copied, t) {
			continue
		}
		if why, ok := whyNot[t]; ok {
			return errors.New(why)
		}
		return fmt.Errorf("its target %s keeps a state that cannot be mapped twice", t)
	}
	return nil
}

// over is the table that lets a device write through dm-snapshot.
func over(real dm.Dev, sectors uint64) []dm.Target {
	return []dm.Target{{Length: sectors, Type: "snapshot-origin", Params: dm.SnapshotOriginTable{Dest: real}.String()}}
}

func sectors(table []dm.Target) uint64 {
	if len(table) == 0 {
		return 0
	}
	last := table[len(table)-1]
	return last.Start + last.Length
}
