package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// parseSize reads a number of bytes with an optional K, M, G or T: powers of
// 1024, as LVM has them.
func parseSize(s string) (int64, error) {
	digits, shift := s, 0
	if i := len(s) - 1; i > 0 {
		if power := strings.IndexByte("KMGT", s[i]&^0x20); power >= 0 {
			digits, shift = s[:i], 10*(power+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is not a size such as 512M or 2G", s)
	}
	return int64(n) << shift, nil
}
