package config

import (
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// Span is a stretch of time on the calendar, as restic writes it: 2y5m7d3h, where m is months. Years and months are as long as
// they are where they end; a day has 24 hours, except when a clock is changed in it.
type Span struct{ Years, Months, Days, Hours int }

var spanPattern = regexp.MustCompile(`^(?:([0-9]{1,4})y)?(?:([0-9]{1,4})m)?(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?$`)

// ParseSpan reads a span: 1y, 6m (months), 14d, 12h, or several of them in this order.
func ParseSpan(text string) (Span, error) {
	m := spanPattern.FindStringSubmatch(text)
	if m == nil || text == "" {
		return Span{}, fmt.Errorf("%s is no span of time: write years, months, days and hours like 1y6m, 14d or 2d12h", text)
	}
	var s Span
	for i, field := range []*int{&s.Years, &s.Months, &s.Days, &s.Hours} {
		if m[i+1] != "" {
			*field, _ = strconv.Atoi(m[i+1]) // at most six digits
		}
	}
	return s, nil
}

// Zero reports whether the span is empty.
func (s Span) Zero() bool { return s == Span{} }

// Before is the instant that lies the span before t, by the calendar of t's location.
func (s Span) Before(t time.Time) time.Time {
	return t.AddDate(-s.Years, -s.Months, -s.Days).Add(-time.Duration(s.Hours) * time.Hour)
}

func (s Span) String() string {
	text := ""
	for _, part := range []struct {
		n    int
		unit string
	}{{s.Years, "y"}, {s.Months, "m"}, {s.Days, "d"}, {s.Hours, "h"}} {
		if part.n != 0 {
			text += strconv.Itoa(part.n) + part.unit
		}
	}
	return text
}
