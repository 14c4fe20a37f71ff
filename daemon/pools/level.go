package pools

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/dm"
)

// Level is how urgent the state of a pool is; a higher one is worse.
type Level int

const (
	OK Level = iota
	Warning
	Critical
	Exhausted // all is used: writes wait or fail, a snapshot is about to be lost
	Failed    // it needs a check, is read-only, or its content is lost: no extension helps
)

var levels = [...]string{"ok", "warning", "critical", "exhausted", "failed"}

func (l Level) String() string { return levels[l] }

// Levels in their order.
func Levels() []Level { return []Level{OK, Warning, Critical, Exhausted, Failed} }

// Thresholds are parts of the whole, 0 to 1.
type Thresholds struct{ Warning, Critical float64 }

// Limits are the thresholds of what a pool has.
type Limits struct{ Data, Metadata, COW Thresholds }

// hysteresis is how far, as a part of the whole, the use has to fall below a threshold for the level to follow.
const hysteresis = 0.02

// ParseLevel reads a level's word.
func ParseLevel(word string) (Level, bool) {
	i := slices.Index(levels[:], word)
	return Level(i), i >= 0
}

// Parts are the levels of a pool's data and metadata. A copy-on-write area has data only.
type Parts struct{ Data, Metadata Level }

// Worst of both.
func (p Parts) Worst() Level { return max(p.Data, p.Metadata) }

// judge says at which levels a space is that was at the levels was, and why: empty for OK.
func judge(was Parts, s dm.Space, limits Limits) (Parts, string) {
	failed := Parts{Failed, Failed}
	switch {
	case s.Mode == "invalid" || s.Mode == "overflow":
		return failed, "the snapshot is lost: its copy-on-write area was full, or could not be written"
	case s.Mode == "fail" || s.Mode == "error":
		return failed, "the pool has failed; see dmesg, and lvconvert --repair"
	case s.NeedsCheck:
		return failed, "the pool's metadata have to be checked: lvchange -an, then lvconvert --repair"
	case s.Mode == "ro":
		return failed, "the pool is read-only: out of metadata space, or damaged; see dmesg"
	}
	at := limits.Data
	if s.Type == "snapshot" {
		at = limits.COW
	}
	is := Parts{fullness(was.Data, s.Data, at), fullness(was.Metadata, s.Metadata, limits.Metadata)}
	if s.Mode == "out_of_data_space" {
		is.Data = Exhausted
		return is, "the pool is out of data space: writes wait, and then fail"
	}
	var reasons []string
	if is.Data > OK {
		reasons = append(reasons, fmt.Sprintf("data %.1f %% full", 100*part(s.Data)))
	}
	if is.Metadata > OK {
		reasons = append(reasons, fmt.Sprintf("metadata %.1f %% full", 100*part(s.Metadata)))
	}
	return is, strings.Join(reasons, ", ")
}

func part(f dm.Fill) float64 { return float64(f.Used) / float64(max(f.Size, 1)) }

// fullness is the level of one part. A level once reached is left hysteresis below its threshold.
func fullness(was Level, f dm.Fill, at Thresholds) Level {
	used := part(f)
	reached := func(l Level, threshold float64) bool {
		return used >= threshold || was >= l && used >= threshold-hysteresis
	}
	switch {
	case f.Size == 0:
		return OK
	case used >= 1:
		return Exhausted
	case reached(Critical, at.Critical):
		return Critical
	case reached(Warning, at.Warning):
		return Warning
	}
	return OK
}
