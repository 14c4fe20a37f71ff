package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is an amount of storage in bytes.
type Size uint64

// Space is an amount of storage, either a share of a whole (`10%`) or absolute (`5G`): at most one
// of the two fields is not zero.
type Space struct {
	Percent float64 // of the whole, 0 to 100
	Size    Size    // bytes
}

// Of returns the space in bytes when the whole has total bytes, rounded up.
func (s Space) Of(total uint64) uint64 {
	if s.Percent > 0 {
		return uint64(math.Ceil(s.Percent / 100 * float64(total)))
	}
	return uint64(s.Size)
}

// String writes the space as the configuration has it: "10%" or "5G".
func (s Space) String() string {
	if s.Percent > 0 {
		return strconv.FormatFloat(s.Percent, 'f', -1, 64) + "%"
	}
	return s.Size.String()
}

const sizeLetters = "KMGTPE"

// String writes the size with the greatest unit that divides it: "512M", "1537K", "100".
func (s Size) String() string {
	unit := -1
	for s != 0 && s%1024 == 0 && unit < len(sizeLetters)-1 {
		s /= 1024
		unit++
	}
	text := strconv.FormatUint(uint64(s), 10)
	if unit >= 0 {
		text += sizeLetters[unit : unit+1]
	}
	return text
}

// durationUnits are those of time.ParseDuration, and day and week. A day has 24 hours here: limits
// and waits know no daylight saving.
var durationUnits = map[string]time.Duration{
	"ns": time.Nanosecond, "us": time.Microsecond, "µs": time.Microsecond, "ms": time.Millisecond,
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

var (
	errNoUnit    = errors.New("no unit")
	errNoNumber  = errors.New("no number")
	errTooGreat  = errors.New("too great")
	errNegative  = errors.New("negative")
	errAmbiguous = errors.New("powers of 1024 have an i")
)

// ParseDuration reads what time.ParseDuration does, with the units d (24 h) and w (7 d) added:
// "500ms", "1h30m", "1.5d", "2w". Zero needs no unit. Negative durations are errors.
func ParseDuration(text string) (time.Duration, error) {
	d, err := parseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("cannot read %s as a duration: %w: write it like 500ms, 10s, 5m, 2h, 1d or 1w", quote(text), err)
	}
	return d, nil
}

func parseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	var sum time.Duration
	for first := true; first || text != ""; first = false {
		number, rest, err := splitNumber(text)
		if err != nil {
			return 0, err
		}
		name := rest
		if end := strings.IndexAny(rest, ".0123456789"); end >= 0 {
			name = rest[:end]
		}
		text = rest[len(name):]
		unit, ok := durationUnits[name]
		switch {
		case name == "":
			return 0, errNoUnit
		case !ok:
			return 0, fmt.Errorf("unknown unit %s", quote(name))
		}
		part, err := scale(number, uint64(unit), math.MaxInt64)
		if err != nil {
			return 0, err
		}
		if sum += time.Duration(part); sum < 0 {
			return 0, errTooGreat
		}
	}
	return sum, nil
}

// ParseSize reads a number of bytes, bare or with a unit of powers of 1024: K, M, G, T, P, E in
// either case, as LVM takes them, or spelt KiB, MiB, …: "512M", "1.5GiB", "4096". KB, MB and the
// like are errors, for they mean powers of 1000 to half of the world.
func ParseSize(text string) (Size, error) {
	s, err := parseSize(text)
	if err != nil {
		return 0, fmt.Errorf("cannot read %s as a size: %w: write it like 4096, 512M, 5G or 5GiB", quote(text), err)
	}
	return s, nil
}

func parseSize(text string) (Size, error) {
	number, unit, err := splitNumber(text)
	if err != nil {
		return 0, err
	}
	factor := uint64(1)
	if unit != "" && unit != "B" {
		power := strings.Index(sizeLetters, strings.ToUpper(unit[:1]))
		switch rest := unit[1:]; {
		case power >= 0 && (rest == "" || rest == "iB"):
			factor = 1 << (10 * (power + 1))
		case power >= 0 && strings.EqualFold(rest, "B"):
			return 0, errAmbiguous
		default:
			return 0, fmt.Errorf("unknown unit %s", quote(unit))
		}
	}
	bytes, err := scale(number, factor, math.MaxUint64)
	return Size(bytes), err
}

// ParseSpace reads a share of a whole, 0% to 100%, or a size. A size needs its unit here (`B` for
// bytes), for a bare 5 is hardly meant to be five bytes.
func ParseSpace(text string) (Space, error) {
	number, share := strings.CutSuffix(text, "%")
	if !share {
		s, err := parseSize(text)
		if err == nil && s > 0 && strings.Trim(text, ".0123456789") == "" {
			err = errNoUnit
		}
		if err != nil {
			return Space{}, fmt.Errorf("cannot read %s as a space: %w: write it like 10%% or 5G", quote(text), err)
		}
		return Space{Size: s}, nil
	}
	digits, rest, err := splitNumber(number)
	if err == nil && rest != "" {
		err = fmt.Errorf("%s is no number", quote(number))
	}
	if err != nil {
		return Space{}, fmt.Errorf("cannot read %s as a share: %w: write it like 10%%", quote(text), err)
	}
	percent, err := strconv.ParseFloat(digits, 64)
	if err != nil || percent > 100 {
		return Space{}, fmt.Errorf("%s is out of range: 0%% to 100%%", quote(text))
	}
	return Space{Percent: percent}, nil
}

// splitNumber cuts text behind its leading decimal number.
func splitNumber(text string) (number, rest string, err error) {
	if strings.HasPrefix(text, "-") {
		return "", "", errNegative
	}
	end := len(text)
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '.' && (r < '0' || r > '9') }); i >= 0 {
		end = i
	}
	number, rest = text[:end], text[end:]
	if strings.Trim(number, ".") == "" {
		return "", "", errNoNumber
	}
	if strings.Count(number, ".") > 1 {
		return "", "", fmt.Errorf("%s is no number", quote(number))
	}
	return number, rest, nil
}

// scale multiplies a decimal number by a unit; whole numbers exactly. The result is at most limit.
func scale(number string, unit, limit uint64) (uint64, error) {
	if whole, err := strconv.ParseUint(number, 10, 64); err == nil {
		if whole > limit/unit {
			return 0, errTooGreat
		}
		return whole * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f*float64(unit) >= float64(limit) {
		return 0, errTooGreat
	}
	return uint64(math.Round(f * float64(unit))), nil
}

// formatDuration writes a duration as ParseDuration reads it, whole weeks and days as such, and
// without zero parts: "1w", "10m".
func formatDuration(d time.Duration) string {
	day, week := durationUnits["d"], durationUnits["w"]
	switch {
	case d > 0 && d%week == 0:
		return strconv.FormatInt(int64(d/week), 10) + "w"
	case d > 0 && d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
