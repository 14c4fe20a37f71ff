package lvm

import "fmt"

// Attr is lv_attr, ten characters or more of which each place has a meaning (lvs(8)).
type Attr string

// ParseAttr checks the form.
func ParseAttr(s string) (Attr, error) {
	if len(s) < 9 || len(s) > 16 {
		return "", fmt.Errorf("invalid lv_attr %.40q: want ten characters", s)
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return "", fmt.Errorf("invalid lv_attr %.40q", s)
		}
	}
	return Attr(s), nil
}

// Places in lv_attr.
const (
	attrType       = 0
	attrPermission = 1
	attrState      = 4
	attrOpen       = 5
	attrHealth     = 8
	attrSkip       = 9
)

func (a Attr) at(i int) byte {
	if i >= len(a) {
		return '-'
	}
	return a[i]
}

// Type is LVM's letter for the kind of volume: '-' plain, 'o' origin of thick snapshots, 's' thick snapshot, 'V' thin
// volume, 't' thin pool, 'T' its data, 'e' its or a RAID's metadata, 'C' cache, 'r' RAID, 'p' pvmove; capital letters are
// variants.
func (a Attr) Type() byte { return a.at(attrType) }

// ReadOnly tells whether the volume can only be read, by its permission or its activation.
func (a Attr) ReadOnly() bool { return a.at(attrPermission) == 'r' || a.at(attrPermission) == 'R' }

// State is LVM's letter: 'a' active, '-' inactive, 's' suspended, 'I' invalid snapshot, 'S' invalid and suspended, 'm' and
// 'M' merge failed, 'd' device without table, 'i' device with only an inactive table, 'c' and 'C' pool needs a check,
// 'h' historical, 'X' unknown.
func (a Attr) State() byte { return a.at(attrState) }

// Active tells whether the volume has a device with a table.
func (a Attr) Active() bool {
	switch a.State() {
	case 'a', 's', 'I', 'S', 'm', 'M', 'c', 'C':
		return true
	}
	return false
}

// Suspended tells whether I/O to the volume is held back.
func (a Attr) Suspended() bool {
	switch a.State() {
	case 's', 'S', 'M', 'C':
		return true
	}
	return false
}

// Invalid tells whether a thick snapshot is lost.
func (a Attr) Invalid() bool { return a.State() == 'I' || a.State() == 'S' }

// Open tells whether the volume's device is open, by a mount for instance.
func (a Attr) Open() bool { return a.at(attrOpen) == 'o' }

// Health is LVM's letter: '-' good; 'p' partial; of pools 'F' failed, 'D' out of data space, 'M' metadata read-only; of
// RAID 'r', 'm', 'w', 'R'.
func (a Attr) Health() byte { return a.at(attrHealth) }

// SkipActivation tells whether only an explicit order activates the volume.
func (a Attr) SkipActivation() bool { return a.at(attrSkip) == 'k' }
