package calendar

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// micro is how many units a second has.
const micro = 1_000_000

// chain is a list of values, ranges and repetitions of one part of a date or a time; nil: any value.
type chain []component

// component is start; or start to stop; by steps of repeat, if that is not 0.
type component struct {
	start, stop, repeat int
	open                bool // there is no stop
}

// compare orders them as systemd does.
func (x component) compare(y component) int {
	stop := func(x component) int {
		if x.stop == x.start {
			return -1
		}
		return x.stop
	}
	return cmp.Or(cmp.Compare(x.start, y.start), cmp.Compare(stop(x), stop(y)), cmp.Compare(x.repeat, y.repeat))
}

func one(n int) chain { return chain{{start: n, stop: n}} }

// parseUpwards reads a chain whose repetitions go up, and of which there is one at least: systemd refuses others.
func parseUpwards(what, text string, least, most, unit int) (chain, error) {
	c, err := parseChain(what, text, least, most, unit)
	for _, x := range c {
		if x.open && x.start+x.repeat > most {
			return nil, fmt.Errorf("%s %s: it comes once only", what, quote(text))
		}
	}
	return c, err
}

// parseChain reads a chain of values from least to most, of unit units each.
func parseChain(what, text string, least, most, unit int) (chain, error) {
	if text == "*" {
		return nil, nil
	}
	var c chain
	for _, part := range strings.Split(text, ",") {
		x, err := parseComponent(part, what, least, most, unit)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", what, quote(text), err)
		}
		c = append(c, x)
	}
	return c, nil
}

func parseComponent(text, what string, least, most, unit int) (x component, err error) {
	text, repeat, repeated := strings.Cut(text, "/")
	start, stop, ranged := strings.Cut(text, "..")
	read := func(s string) (int, error) {
		n, err := parseNumber(s, unit)
		if what == "year" && err == nil && n < 100 { // as systemd reads years of two digits
			n += map[bool]int{true: 2000, false: 1900}[n < 70]
		}
		return n, err
	}
	if x.start, err = read(start); err != nil {
		return x, err
	}
	x.stop = x.start
	if ranged {
		if x.stop, err = read(stop); err != nil {
			return x, err
		}
		if x.stop < x.start {
			return x, fmt.Errorf("%s runs backwards", text)
		}
		x.repeat = unit
	}
	if repeated {
		if x.repeat, err = parseNumber(repeat, unit); err != nil {
			return x, err
		}
		if x.repeat == 0 {
			return x, fmt.Errorf("a repetition of 0")
		}
		x.open = !ranged
	}
	if ranged {
		if unit > 1 && !repeated && x.start+unit > x.stop { // what has no parts may do so
			return x, fmt.Errorf("%s is shorter than a second: write one of the two", text)
		}
		x.stop -= (x.stop - x.start) % x.repeat // the end need not be a value: 1..24/5
		if x.stop == x.start {
			x.repeat = 0
		}
	}
	switch {
	case x.start < least || x.start > most:
		err = fmt.Errorf("%s is not from %d to %d", start, least/unit, most/unit)
	case x.stop > most:
		err = fmt.Errorf("%s is not from %d to %d", stop, least/unit, most/unit)
	case x.repeat > most-least:
		err = fmt.Errorf("%s comes once only", text)
	}
	return x, err
}

// parseNumber reads digits, and for units that have parts a fraction.
func parseNumber(s string, unit int) (int, error) {
	whole, fraction, decimal := strings.Cut(s, ".")
	bad := whole == "" || len(whole) > 5 || decimal && (unit == 1 || fraction == "" || len(fraction) > 9)
	for _, r := range whole + fraction {
		bad = bad || r < '0' || r > '9'
	}
	if bad {
		return 0, fmt.Errorf("%s is no number", quote(s))
	}
	f, err := strconv.ParseFloat(s, 64)
	return int(math.Round(f * float64(unit))), err
}

func (c chain) has(n int) bool {
	if c == nil {
		return true
	}
	for _, x := range c {
		if n == x.start || n > x.start && (x.open || n <= x.stop) && x.repeat > 0 && (n-x.start)%x.repeat == 0 {
			return true
		}
	}
	return false
}

// ends are the first and the last value below a limit.
func (c chain) ends(limit int) (first, last int) {
	if c == nil {
		return 0, limit - micro
	}
	first = limit
	for _, x := range c {
		first = min(first, x.start)
		stop := x.stop
		if x.open {
			stop = limit - 1
		}
		if x.repeat > 0 {
			stop -= (stop - x.start) % x.repeat
		}
		last = max(last, stop)
	}
	return first, last
}
