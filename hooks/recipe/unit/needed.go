package unit

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// needs are the units without which a set cannot be taken or let go again: Fermata's own, the bus, and what device-mapper, LVM
// and the journal wait for.
var needs = []string{
	"fermatad.service", "fermata-guard.service",
	"dbus.service", "dbus-broker.service",
	"systemd-journald.service", "systemd-udevd.service", "init.scope",
	"dm-event.service", "lvm2-lvmpolld.service", "multipathd.service", "iscsid.service",
}

// needed is nil if the unit is not one that Fermata needs, and none of those is inside it.
func (u *Unit) needed(ctx context.Context) error {
	for _, name := range needs {
		s, err := u.systemd.State(ctx, name)
		if err != nil {
			return err
		}
		if s.ID == u.state.ID || inside(s.Group, u.state.Group) {
			return fmt.Errorf("%s cannot be frozen: a set could not be let go without %s", u.Name, name)
		}
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return err
	}
	if inside(ownGroup(string(own)), u.state.Group) {
		return fmt.Errorf("%s cannot be frozen: this writer runs inside it", u.Name)
	}
	return nil
}

// inside reports whether a cgroup is another one or lies below it.
func inside(group, above string) bool {
	above = strings.TrimSuffix(above, "/")
	return group != "" && (group == above || strings.HasPrefix(group, above+"/"))
}

// ownGroup reads /proc/self/cgroup.
func ownGroup(text string) string {
	for line := range strings.Lines(text) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return group
		}
	}
	return ""
}
