package lvm

import (
	"fmt"
	"strings"
)

const (
	nameMax = 127  // NAME_LEN in lib/metadata, with its NUL byte
	tagMax  = 1024 // lvm(8), TAGS
)

const (
	alnum    = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	nameSet  = alnum + "+_.-"
	tagSet   = alnum + "_+.-/=!:&#"
	notFirst = "-"
)

// CheckName refuses a name that no VG or LV can have, such as one that lvm would take for an option (lvm(8), VALID
// NAMES).
func CheckName(name string) error {
	return check("name", name, nameSet, nameMax)
}

// CheckTag refuses what cannot be a tag (lvm(8), TAGS).
func CheckTag(tag string) error {
	return check("tag", tag, tagSet, tagMax)
}

func check(kind, s, set string, limit int) error {
	switch {
	case s == "", s == ".", s == "..", strings.HasPrefix(s, notFirst), strings.Trim(s, set) != "", len(s) > limit:
		return fmt.Errorf("invalid LVM %s %.140q", kind, s)
	}
	return nil
}

// checkLV refuses anything but "vg/lv".
func checkLV(path string) error {
	vg, lv, ok := strings.Cut(path, "/")
	if !ok {
		return fmt.Errorf("invalid logical volume %.140q: want VG/LV", path)
	}
	if err := CheckName(vg); err != nil {
		return err
	}
	return CheckName(lv)
}
