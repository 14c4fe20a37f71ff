package dm

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Dev is a device number in the encoding that device-mapper's ioctls use (huge_encode_dev in include/linux/kdev_t.h),
// which for the kernel's 12-bit majors and 20-bit minors is also that of stat(2).
type Dev uint64

// MkDev makes a device number.
func MkDev(major, minor uint32) Dev { return Dev(unix.Mkdev(major, minor)) }

// Major number of the device.
func (d Dev) Major() uint32 { return unix.Major(uint64(d)) }

// Minor number of the device.
func (d Dev) Minor() uint32 { return unix.Minor(uint64(d)) }

// String is the form that tables and sysfs use: "253:3".
func (d Dev) String() string {
	return strconv.FormatUint(uint64(d.Major()), 10) + ":" + strconv.FormatUint(uint64(d.Minor()), 10)
}

// Limits of the kernel's encoding (MINORBITS in include/linux/kdev_t.h).
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

// ParseDev reads the form that String gives.
func ParseDev(s string) (Dev, error) {
	a, b, ok := strings.Cut(s, ":")
	major, err1 := parseUint(a)
	minor, err2 := parseUint(b)
	if !ok || err1 != nil || err2 != nil || major > maxMajor || minor > maxMinor {
		return 0, fmt.Errorf("cannot read device number %s: want MAJOR:MINOR", quote(s))
	}
	return MkDev(uint32(major), uint32(minor)), nil
}

// Ref says which device is meant. Exactly one field is set.
type Ref struct {
	Name string
	UUID string
	Dev  Dev
}

// ByName refers to a device by its device-mapper name, which is the last part of its path in /dev/mapper.
func ByName(name string) Ref { return Ref{Name: name} }

// ByUUID refers to a device by its device-mapper UUID, such as "LVM-" followed by those of VG and LV.
func ByUUID(uuid string) Ref { return Ref{UUID: uuid} }

// ByDev refers to a device by its number.
func ByDev(d Dev) Ref { return Ref{Dev: d} }

// String is what error texts call the device.
func (r Ref) String() string {
	switch {
	case r.Name != "":
		return r.Name
	case r.UUID != "":
		return r.UUID
	case r.Dev != 0:
		return r.Dev.String()
	}
	return ""
}

// check refuses a Ref that the kernel would misunderstand.
func (r Ref) check() error {
	set := 0
	for _, is := range []bool{r.Name != "", r.UUID != "", r.Dev != 0} {
		if is {
			set++
		}
	}
	if set != 1 {
		return fmt.Errorf("internal error: a device reference needs exactly one of name, UUID and number, not %d", set)
	}
	if len(r.Name) >= unix.DM_NAME_LEN || strings.ContainsRune(r.Name, 0) {
		return fmt.Errorf("invalid device name %s: it has to be shorter than %d bytes", quote(r.Name), unix.DM_NAME_LEN)
	}
	if len(r.UUID) >= unix.DM_UUID_LEN || strings.ContainsRune(r.UUID, 0) {
		return fmt.Errorf("invalid device UUID %s: it has to be shorter than %d bytes", quote(r.UUID), unix.DM_UUID_LEN)
	}
	return nil
}
