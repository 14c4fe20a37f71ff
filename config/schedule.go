package config

import (
	"fmt"
	"regexp"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/fermata-project/fermata/config/calendar"
)

// Schedule says when a policy runs by itself: a timer of systemd's is made of it. Without At there is none.
type Schedule struct {
	At              []string      // calendar expressions (systemd.time(7)), at most 16
	RandomizedDelay time.Duration // 0 to 1d; default a tenth of Interval, at most 15m
	Persistent      bool          // what was missed while the host was down is made up for, once; default true
	OnFailure       string        // a unit that is started when a run fails; "" for none
	Interval        time.Duration // follows from At: the longest time between two runs from now on; 0 if there are no two
}

// interval is the shortest of the longest times between two runs that each expression has.
func interval(expressions []string, from time.Time) time.Duration {
	var least time.Duration
	for _, text := range expressions {
		e, err := calendar.Parse(text)
		if err != nil {
			continue // reported when it was read
		}
		if d, again := e.Longest(from); again && (least == 0 || d < least) {
			least = d
		}
	}
	return least
}

const maxRandomizedDelay = 15 * time.Minute // unless it is asked for

func expression() reader[string] {
	return text("a calendar expression", calendar.Most, func(s string) error {
		_, err := calendar.Parse(s)
		return err
	})
}

// failureUnit has those of systemd.unit(5)'s specifiers that systemd 247 to 257 knows in a dependency and that fit into a name: with others
// it ignores the line.
var failureUnit = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@([A-Za-z0-9:_.\\-]|%[bBgGHijlmnNopuUvwW])*)?\.(service|target|timer|path|socket)$`)

func checkFailureUnit(s string) error {
	if !failureUnit.MatchString(s) {
		return fmt.Errorf("%s is no unit of systemd's, such as alert@%%n.service, with the specifiers that one may have", quote(s))
	}
	return nil
}

var scheduleSchema = scheduleForms(mapping(
	required(key("at", func(s *Schedule) *[]string { return &s.At }, oneOrMore(expression(), 16))),
	key("randomized_delay", func(s *Schedule) *time.Duration { return &s.RandomizedDelay }, duration(0, 24*time.Hour)),
	key("persistent", func(s *Schedule) *bool { return &s.Persistent }, boolean()),
	key("on_failure", func(s *Schedule) *string { return &s.OnFailure }, text("a unit", 255, checkFailureUnit)),
))

// scheduleForms reads the mapping, or what would stand in its key at.
func scheduleForms(full reader[Schedule]) reader[Schedule] {
	at := oneOrMore(expression(), 16)
	return reader[Schedule]{keys: full.keys, read: func(d *decoder, path string, n *yaml.Node, into *Schedule) {
		if n.Kind == yaml.MappingNode {
			full.read(d, path, n, into)
			return
		}
		at.read(d, path, n, &into.At)
	}}
}

// oneOrMore reads a single item, or a list of them.
func oneOrMore(item reader[string], most int) reader[[]string] {
	several := distinct(list(item, 1, most))
	return reader[[]string]{keys: several.keys, read: func(d *decoder, path string, n *yaml.Node, into *[]string) {
		if n.Kind != yaml.ScalarNode || isNull(n) {
			several.read(d, path, n, into)
			return
		}
		var one string
		item.read(d, path, n, &one)
		*into = []string{one}
	}}
}

// checkSchedule fills in what depends on other keys.
func checkSchedule(d *decoder, s *Schedule) {
	s.Interval = interval(s.At, time.Now())
	if !d.has("schedule.randomized_delay") {
		s.RandomizedDelay = min(s.Interval/10, maxRandomizedDelay).Truncate(time.Second)
	}
}
