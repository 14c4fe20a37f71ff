// Package timers makes systemd's units of the schedules of policies.
package timers

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/fermata-project/fermata/config"
)

// Unit is the timer that runs a policy.
func Unit(policy string) string { return "fermata-policy@" + policy + ".timer" }

// Template is what all of them are instances of.
const Template = "/usr/lib/systemd/system/fermata-policy@.timer"

// Generated are the files, with their texts, and the links, with their targets, that make systemd run a policy by its schedule: in a
// directory of units such as a generator gets (systemd.generator(7)). Without a schedule there are none.
func Generated(p config.Policy, dir string) (files, links map[string]string) {
	s := p.Schedule
	if len(s.At) == 0 {
		return nil, nil
	}
	made := fmt.Sprintf("# Made of %s: fermata policy apply makes it anew.\n", p.File)
	var b strings.Builder
	fmt.Fprintf(&b, "%s[Timer]\nOnCalendar=\n", made)
	for _, at := range s.At {
		fmt.Fprintf(&b, "OnCalendar=%s\n", at)
	}
	fmt.Fprintf(&b, "RandomizedDelaySec=%dus\nPersistent=%t\n", s.RandomizedDelay.Microseconds(), s.Persistent)
	const drop = "50-schedule.conf"
	files = map[string]string{filepath.Join(dir, Unit(p.Name)+".d", drop): b.String()}
	if s.OnFailure != "" {
		service := "fermata-policy@" + p.Name + ".service.d"
		files[filepath.Join(dir, service, drop)] = fmt.Sprintf("%s[Unit]\nOnFailure=%s\n", made, s.OnFailure)
	}
	return files, map[string]string{filepath.Join(dir, "timers.target.wants", Unit(p.Name)): Template}
}
