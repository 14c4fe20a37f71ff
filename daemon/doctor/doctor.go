// Package doctor says what a host can do for snapshot sets, and what is wrong with it.
//
// What is observed ([Host], by Observe) and what follows from it (Assess) are apart: every assessment is a pure function,
// so that a host that nobody has at hand can be judged in a test. It works without the daemon, since a daemon that does
// not run is one of the things to find out.
package doctor

// State of a check.
type State string

const (
	// OK: as it should be, or a fact that is no fault.
	OK State = "ok"
	// Warning: sets can be taken, but less well, or not of everything.
	Warning State = "warning"
	// Failure: no set can be taken before this is mended.
	Failure State = "failed"
)

// Check is one finding.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
	// Remedy is what to do about it; empty if there is nothing to do.
	Remedy string `json:"remedy,omitempty"`
}

// Assess judges a host. The checks are in a fixed order: the kernel, storage, the configuration, the service.
func Assess(h Host) []Check {
	var checks []Check
	for _, assess := range []func(Host) []Check{
		kernel, targets, tools, pools, mounts, swap, monitoring, permissions, udev, configuration, bus, service, guard,
	} {
		checks = append(checks, assess(h)...)
	}
	return checks
}

// Failed reports whether a check failed.
func Failed(checks []Check) bool {
	for _, c := range checks {
		if c.State == Failure {
			return true
		}
	}
	return false
}

func ok(name, detail string) []Check { return []Check{{Name: name, State: OK, Detail: detail}} }

func warning(name, detail, remedy string) []Check {
	return []Check{{Name: name, State: Warning, Detail: detail, Remedy: remedy}}
}

func failure(name, detail, remedy string) []Check {
	return []Check{{Name: name, State: Failure, Detail: detail, Remedy: remedy}}
}
