// Package timers makes systemd's units of the schedules of policies.
package timers

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/config/calendar"
)

// Unit is the timer that runs a policy.
func Unit(policy string) string { return "fermata-policy@" + policy + ".timer" }

// Generated are the files, with their texts, and the links, with their targets, that make systemd run a policy by its schedule: in a
// directory of units such as a generator gets (systemd.generator(7)). Without a schedule there are none. The timer is an instance of no
// template: one that runs while its policy cannot be read any more would take the template's schedule for its own.
func Generated(p config.Policy, dir string) (files, links map[string]string) {
	s := p.Schedule
	if len(s.At) == 0 {
		return nil, nil
	}
	made := fmt.Sprintf("# Made of %s: fermata policy apply makes it anew.\n", p.File)
	var b strings.Builder
	fmt.Fprintf(&b, "%s[Unit]\nDescription=Snapshot sets of policy %s\n\n[Timer]\n", made, p.Name)
	for _, at := range s.At {
		fmt.Fprintf(&b, "OnCalendar=%s\n", throughChanges(at, time.Local, time.Now()))
	}
	fmt.Fprintf(&b, "RandomizedDelaySec=%dus\nPersistent=%t\nAccuracySec=1s\n", s.RandomizedDelay.Microseconds(), s.Persistent)
	files = map[string]string{filepath.Join(dir, Unit(p.Name)): b.String()}
	if s.OnFailure != "" {
		service := "fermata-policy@" + p.Name + ".service.d"
		files[filepath.Join(dir, service, "50-schedule.conf")] = fmt.Sprintf("%s[Unit]\nOnFailure=%s\n", made, s.OnFailure)
	}
	return files, map[string]string{filepath.Join(dir, "timers.target.wants", Unit(p.Name)): filepath.Join("..", Unit(p.Name))}
}

// throughChanges says a time of each hour in UTC. In local time systemd leaves out the hour that comes twice when daylight saving ends:
// after 02:45 its next quarter of an hour is 03:00, five quarters later (systemd 252, systemd-analyze calendar).
func throughChanges(expression string, in *time.Location, now time.Time) string {
	e, err := calendar.Parse(expression)
	if err != nil || !e.EachHour() {
		return expression
	}
	for month := range time.Month(12) {
		if _, offset := time.Date(now.Year(), month+1, 1, 0, 0, 0, 0, in).Zone(); offset%(60*60) != 0 {
			return expression // its minutes are not those of UTC
		}
	}
	return expression + " UTC"
}
