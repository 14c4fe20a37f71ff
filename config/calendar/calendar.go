// Package calendar reads systemd's calendar expressions (systemd.time(7)), such as "Mon..Fri *-*-* 08..18:00" or "*:0/15". systemd's
// own timers obey them; this is to refuse a wrong one where it is written, and to know how long it may be between two runs.
package calendar

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Expression is a calendar expression.
type Expression struct {
	weekdays         []int // 0 is Sunday; nil: each
	year, month, day chain
	fromEnd          bool // days are counted from the month's last
	hour, minute     chain
	second           chain // in microseconds
	zone             string
}

// words are what systemd takes some words for.
var words = map[string]string{
	"minutely": "*-*-* *:*:00", "hourly": "*-*-* *:00:00", "daily": "*-*-* 00:00:00", "weekly": "Mon *-*-* 00:00:00",
	"monthly": "*-*-01 00:00:00", "quarterly": "*-01,04,07,10-01 00:00:00", "semiannually": "*-01,07-01 00:00:00",
	"biannually": "*-01,07-01 00:00:00", "bi-annually": "*-01,07-01 00:00:00", "semi-annually": "*-01,07-01 00:00:00",
	"yearly": "*-01-01 00:00:00", "annually": "*-01-01 00:00:00", "anually": "*-01-01 00:00:00",
}

// Most is how long an expression may be, in bytes.
const Most = 256

// Parse reads an expression.
func Parse(text string) (Expression, error) {
	e, err := parse(text)
	if err != nil {
		return Expression{}, fmt.Errorf("%s is no calendar expression: %w (see systemd.time(7); systemd-analyze calendar explains one)", quote(text), err)
	}
	return e, nil
}

// quote shows the beginning of a text.
func quote(text string) string {
	if len(text) > 60 {
		return fmt.Sprintf("%.60q…", text)
	}
	return fmt.Sprintf("%q", text)
}

func parse(text string) (e Expression, err error) {
	if len(text) > Most {
		return e, fmt.Errorf("it is longer than %d bytes", Most)
	}
	fields := strings.Fields(text)
	if n := len(fields); n > 1 && isZone(fields[n-1]) {
		e.zone, fields = fields[n-1], fields[:n-1]
	}
	if len(fields) == 1 {
		if long, ok := words[strings.ToLower(fields[0])]; ok {
			fields = strings.Fields(long)
		}
	}
	if len(fields) > 0 {
		var is bool
		if e.weekdays, is, err = parseWeekdays(fields[0]); err != nil {
			return e, err
		} else if is {
			fields = fields[1:]
		}
	}
	e.hour, e.minute, e.second = one(0), one(0), one(0)
	if len(fields) == 1 && fields[0][0] == '@' {
		return e, e.parseInstant(fields[0][1:])
	}
	if n := len(fields); n > 0 && strings.Contains(fields[n-1], ":") {
		if err := e.parseTime(fields[n-1]); err != nil {
			return e, err
		}
		fields = fields[:n-1]
	}
	if len(fields) > 0 {
		if err := e.parseDate(fields[0]); err != nil {
			return e, err
		}
		fields = fields[1:]
	}
	switch {
	case len(fields) > 0:
		return e, fmt.Errorf("%s is too much", quote(fields[0]))
	case strings.TrimSpace(text) == "":
		return e, fmt.Errorf("it is empty")
	}
	return e, nil
}

// EachHour reports whether there are runs in each hour of each day, at the same minutes, and no time zone is said. Such an expression
// means the same in UTC as in any zone that differs from it by whole hours.
func (e Expression) EachHour() bool {
	return e.zone == "" && e.weekdays == nil && e.year == nil && e.month == nil && e.day == nil && e.hour == nil
}

// isZone reports whether a word is a time zone.
func isZone(word string) bool {
	if strings.EqualFold(word, "UTC") {
		return true
	}
	if word == "" || word[0] < 'A' || word[0] > 'Z' || word == "Local" {
		return false
	}
	_, err := time.LoadLocation(word)
	return err == nil
}

var weekdays = []string{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"}

func weekday(word string) (int, bool) {
	word = strings.ToLower(word)
	i := slices.IndexFunc(weekdays, func(full string) bool { return word == full || word == full[:3] })
	return i, i >= 0
}

// parseWeekdays reads days and ranges of days; is is false if the word begins with none.
func parseWeekdays(word string) (days []int, is bool, err error) {
	for i, part := range strings.Split(strings.TrimSuffix(word, ","), ",") {
		from, to, ranged := strings.Cut(part, "..")
		if !ranged {
			from, to, ranged = strings.Cut(part, "-") // the old way
			if _, ok := weekday(from); !ok {
				from, ranged = part, false
			}
		}
		first, ok := weekday(from)
		if !ok && i == 0 {
			return nil, false, nil
		}
		last := first
		if ok && ranged {
			last, ok = weekday(to)
		}
		if !ok {
			return nil, true, fmt.Errorf("%s is no day of the week", quote(part))
		}
		if (last+6)%7 < (first+6)%7 { // weeks begin on Monday
			return nil, true, fmt.Errorf("%s runs backwards", quote(part))
		}
		for d := first; ; d = (d + 1) % 7 {
			days = append(days, d)
			if d == last {
				break
			}
		}
	}
	return days, true, nil
}

func (e *Expression) parseTime(text string) (err error) {
	parts := strings.Split(text, ":")
	if len(parts) > 3 {
		return fmt.Errorf("%s is no time: HOUR:MINUTE, or HOUR:MINUTE:SECOND", quote(text))
	}
	if e.hour, err = parseUpwards("hour", parts[0], 0, 23, 1); err != nil {
		return err
	}
	if e.minute, err = parseUpwards("minute", parts[1], 0, 59, 1); err != nil {
		return err
	}
	if len(parts) == 3 {
		e.second, err = parseUpwards("second", parts[2], 0, 60*micro-1, micro)
	}
	return err
}

func (e *Expression) parseDate(text string) (err error) {
	if before, days, found := strings.Cut(text, "~"); found {
		e.fromEnd, text = true, before+"-"+days
	}
	parts := strings.Split(text, "-")
	switch len(parts) {
	case 2:
		parts = append([]string{"*"}, parts...)
	case 3:
	default:
		return fmt.Errorf("%s is no date: YEAR-MONTH-DAY, or MONTH-DAY", quote(text))
	}
	if e.year, err = parseUpwards("year", parts[0], 1970, 2199, 1); err != nil {
		return err
	}
	if e.month, err = parseUpwards("month", parts[1], 1, 12, 1); err != nil {
		return err
	}
	if e.fromEnd {
		return e.parseFromEnd(parts[2])
	}
	e.day, err = parseUpwards("day", parts[2], 1, 31, 1)
	return err
}

// parseFromEnd reads days before the end of a month, of which every month has 28. They repeat towards the end. Of a list of them
// systemd takes three days less for each further item, in their order (systemd 252).
func (e *Expression) parseFromEnd(text string) (err error) {
	if e.day, err = parseChain("day", text, 1, 28, 1); err != nil {
		return err
	}
	slices.SortFunc(e.day, component.compare)
	e.day = slices.Compact(e.day)
	for i, x := range e.day {
		if most := 28 - 3*i; x.start > most || x.stop > most {
			return fmt.Errorf("day %s: systemd takes no more than %d for this item of a list: write it as an expression of its own", quote(text), most)
		}
		if x.open {
			if x.start <= x.repeat {
				return fmt.Errorf("day %s: it comes once only", quote(text))
			}
			e.day[i] = component{start: (x.start-1)%x.repeat + 1, stop: x.start, repeat: x.repeat}
		}
	}
	return nil
}

// parseInstant reads seconds since 1970, in UTC: one run.
func (e *Expression) parseInstant(text string) error {
	n, err := strconv.ParseUint(text, 10, 36)
	at := time.Unix(int64(n), 0).UTC()
	if err != nil || at.Year() > 2199 {
		return fmt.Errorf("%s is no number of seconds since 1970, before 2200", quote(text))
	}
	e.year, e.month, e.day = one(at.Year()), one(int(at.Month())), one(at.Day())
	e.hour, e.minute, e.second = one(at.Hour()), one(at.Minute()), one(at.Second()*micro)
	return nil
}

// horizon is how many days are looked at: every date has come by then.
const horizon = 9 * 366

// Longest is the longest time between two runs, from an instant on, give or take the hour of a clock that is changed; false if there
// are no two of them in the next years.
func (e Expression) Longest(from time.Time) (time.Duration, bool) {
	times := e.times()
	if len(times) == 0 {
		return 0, false
	}
	longest, last, found := time.Duration(0), 0, false
	for i := 1; i < len(times); i++ {
		longest = max(longest, times[i]-times[i-1])
	}
	overnight := func(days int) time.Duration { return time.Duration(days)*24*time.Hour - times[len(times)-1] + times[0] }
	day := time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, time.UTC)
	for i := range horizon {
		if !e.on(day.AddDate(0, 0, i)) {
			continue
		}
		if found {
			longest = max(longest, overnight(i-last))
		}
		last, found = i, true
	}
	return longest, found && longest > 0
}

// on reports whether there are runs on a day.
func (e Expression) on(day time.Time) bool {
	n := day.Day()
	if e.fromEnd {
		n = time.Date(day.Year(), day.Month()+1, 0, 0, 0, 0, 0, time.UTC).Day() - day.Day() + 1
	}
	return e.year.has(day.Year()) && e.month.has(int(day.Month())) && e.day.has(n) &&
		(e.weekdays == nil || slices.Contains(e.weekdays, int(day.Weekday())))
}

// times are the times of a day, in order.
func (e Expression) times() []time.Duration {
	var out []time.Duration
	for h := range 24 {
		for m := range 60 {
			if e.hour.has(h) && e.minute.has(m) {
				begin := time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
				first, last := e.second.ends(60 * micro)
				out = append(out, begin+time.Duration(first)*time.Microsecond)
				if last != first { // what lies between is shorter than a minute
					out = append(out, begin+time.Duration(last)*time.Microsecond)
				}
			}
		}
	}
	return out
}
