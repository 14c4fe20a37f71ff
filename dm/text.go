package dm

import (
	"errors"
	"strconv"
	"strings"
)

// quote shows text of unknown origin in an error, shortened.
func quote(s string) string {
	const limit = 80
	if len(s) > limit {
		return strconv.Quote(s[:limit]) + "…"
	}
	return strconv.Quote(s)
}

var errNumber = errors.New("not a number")

// parseUint reads a decimal number. Unlike strconv it does not allocate: window calls use it.
func parseUint(s string) (uint64, error) {
	if s == "" {
		return 0, errNumber
	}
	var n uint64
	for i := range len(s) {
		d := uint64(s[i] - '0')
		if d > 9 || n > (1<<64-1-d)/10 {
			return 0, errNumber
		}
		n = n*10 + d
	}
	return n, nil
}

// word splits off the first word of s.
func word(s string) (first, rest string) {
	s = strings.TrimLeft(s, " ")
	if i := strings.IndexByte(s, ' '); i >= 0 {
		return s[:i], strings.TrimLeft(s[i:], " ")
	}
	return s, ""
}
