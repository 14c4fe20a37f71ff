package pools

import (
	"fmt"
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

// judge says at which level a space is that was at the level was, and why: empty for OK.
func judge(was Level, s dm.Space, limits Limits) (Level, string) {
	switch {
	case s.Mode == "invalid" || s.Mode == "overflow":
		return Failed, "the snapshot is lost: its copy-on-write area was full, or could not be written"
	case s.Mode == "fail" || s.Mode == "error":
		return Failed, "the pool has failed; see dmesg, and lvconvert --repair"
	case s.NeedsCheck:
		return Failed, "the pool's metadata have to be checked: lvchange -an, then lvconvert --repair"
	case s.Mode == "ro":
		return Failed, "the pool is read-only: out of metadata space, or damaged; see dmesg"
	case s.Mode == "out_of_data_space":
		return Exhausted, "the pool is out of data space: writes wait, and then fail"
	}
	data := limits.Data
	if s.Type == "snapshot" {
		data = limits.COW
	}
	level, reasons := OK, []string(nil)
	for _, f := range []struct {
		what string
		fill dm.Fill
		at   Thresholds
	}{{"data", s.Data, data}, {"metadata", s.Metadata, limits.Metadata}} {
		if f.fill.Size == 0 {
			continue
		}
		if l := fullness(was, part(f.fill), f.at); l > OK {
			reasons = append(reasons, fmt.Sprintf("%s %.1f %% full", f.what, 100*part(f.fill)))
			level = max(level, l)
		}
	}
	return level, strings.Join(reasons, ", ")
}

func part(f dm.Fill) float64 { return float64(f.Used) / float64(f.Size) }

// fullness is the level of one figure. A level once reached is left hysteresis below its threshold.
func fullness(was Level, used float64, at Thresholds) Level {
	reached := func(l Level, threshold float64) bool {
		return used >= threshold || was >= l && used >= threshold-hysteresis
	}
	switch {
	case used >= 1:
		return Exhausted
	case reached(Critical, at.Critical):
		return Critical
	case reached(Warning, at.Warning):
		return Warning
	}
	return OK
}
