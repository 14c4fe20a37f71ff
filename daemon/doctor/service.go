package doctor

import "strings"

func bus(h Host) []Check {
	var checks []Check
	if h.Bus.Error != "" {
		checks = failure("bus", h.Bus.Error, "install and start dbus: systemctl start dbus")
	} else {
		checks = ok("bus", "the system bus answers")
	}
	if h.Bus.Policy == "" {
		return append(checks, failure("bus policy", "org.fermata.Fermata1.conf is not installed: fermatad cannot own its name",
			"install it to /usr/share/dbus-1/system.d and run systemctl reload dbus")...)
	}
	return append(checks, ok("bus policy", h.Bus.Policy)...)
}

func service(h Host) []Check {
	const name = "fermatad"
	s := h.Service
	switch {
	case h.Bus.Error != "":
		return nil
	case !s.Running && !s.Activatable:
		return failure(name, "does not run, and the bus cannot start it", "install org.fermata.Fermata1.service to /usr/share/dbus-1/system-services, or run systemctl start fermatad")
	case !s.Running:
		return ok(name, "does not run; the bus starts it when it is needed")
	case s.Error != "":
		return warning(name, "runs, but does not tell its status: "+s.Error, "see systemctl status fermatad")
	case s.Status != nil && len(s.Status.Problems) > 0:
		return warning(name, "runs, with problems: "+strings.Join(s.Status.Problems, "; "), "see journalctl -u fermatad")
	case s.Status != nil:
		return ok(name, "runs, version "+s.Status.Version)
	}
	return ok(name, "runs")
}

func guard(h Host) []Check {
	const name = "guard"
	switch {
	case h.Guard == "":
		return ok(name, "its socket answers")
	case h.GuardUnit != "" && !h.Service.Running:
		return ok(name, "does not run; systemd starts it with fermatad")
	case !h.Root:
		return warning(name, "not seen: "+h.Guard, "run fermata doctor as root")
	}
	return failure(name, h.Guard, "run systemctl start fermata-guard.socket: no set is taken without the guard")
}
