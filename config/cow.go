package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// COW is the size of a copy-on-write area: a share of the volume (`10%`), a share of what is used of it (`200%used`), or
// absolute (`5G`): at most one of the fields is not zero.
type COW struct {
	Percent     float64 // of the volume's size, 0 to 100
	UsedPercent float64 // of what its filesystem uses, 0 to 1000
	Size        Size    // bytes
}

// Of returns the size in bytes for a volume, of which used bytes are in use, rounded up.
func (c COW) Of(size, used uint64) uint64 {
	if c.UsedPercent > 0 {
		return uint64(math.Ceil(c.UsedPercent / 100 * float64(used)))
	}
	return Space{Percent: c.Percent, Size: c.Size}.Of(size)
}

// String writes it as the configuration has it.
func (c COW) String() string {
	if c.UsedPercent > 0 {
		return strconv.FormatFloat(c.UsedPercent, 'f', -1, 64) + "%used"
	}
	return Space{Percent: c.Percent, Size: c.Size}.String()
}

const maxUsedPercent = 1000

// ParseCOW reads a share of a volume, 1% to 100%, a share of its used part, to 1000%used, or a size with its unit. Zero is
// an error: a snapshot without an area is none.
func ParseCOW(text string) (COW, error) {
	c, err := parseCOW(text)
	if err == nil && c == (COW{}) {
		err = fmt.Errorf("cannot read %s as the size of a copy-on-write area: it is nothing: write it like 10%%, 200%%used or 5G", quote(text))
	}
	return c, err
}

func parseCOW(text string) (COW, error) {
	number, used := strings.CutSuffix(text, "%used")
	if !used {
		s, err := ParseSpace(text)
		return COW{Percent: s.Percent, Size: s.Size}, err
	}
	digits, rest, err := splitNumber(number)
	if err == nil && rest != "" {
		err = fmt.Errorf("%s is no number", quote(number))
	}
	if err != nil {
		return COW{}, fmt.Errorf("cannot read %s as a share of what is used: %w: write it like 200%%used", quote(text), err)
	}
	percent, err := strconv.ParseFloat(digits, 64)
	if err != nil || percent > maxUsedPercent {
		return COW{}, fmt.Errorf("%s is out of range: at most %d%%used", quote(text), maxUsedPercent)
	}
	return COW{UsedPercent: percent}, nil
}

func cow() reader[COW] { return scalar("the size of a copy-on-write area", ParseCOW) }
