package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/config"
)

// Configuration is what stands in the files.
type Configuration struct {
	Error string // why nothing of it can be used
	// Faults are files that cost a policy, a writer or a provider, as config check prints them.
	Faults   []string
	Policies []Policy
}

// Policy is one that can be used: its name, and the volumes that it wants.
type Policy struct {
	Name    string
	Volumes []string
}

func observeConfiguration(dir string) Configuration {
	var seen Configuration
	c, err := config.Load(dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			seen.Error = err.Error()
		}
		return seen
	}
	for _, p := range c.Problems.Errors() {
		seen.Faults = append(seen.Faults, p.Error())
	}
	for _, p := range c.Policies {
		seen.Policies = append(seen.Policies, Policy{p.Name, p.Volumes})
	}
	slices.SortFunc(seen.Policies, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	return seen
}

// configuration says what keeps a policy from being taken: a file, or a volume that is not there or that nobody takes.
func configuration(h Host) []Check {
	const name = "configuration"
	c := h.Configuration
	var checks []Check
	switch {
	case c.Error != "":
		return failure(name, c.Error, "see fermata config check")
	case len(c.Faults) > 0:
		checks = append(checks, failure(name, strings.Join(c.Faults, "; "), "correct it, and see fermata config check")...)
	case len(c.Policies) == 0:
		checks = append(checks, ok(name, "no policies; fermata init writes some for this host")...)
	default:
		checks = append(checks, ok(name, fmt.Sprintf("sound, policies: %d", len(c.Policies)))...)
	}
	if h.MountError != "" {
		return checks
	}
	for _, p := range c.Policies {
		for _, volume := range p.Volumes {
			if why := untaken(h, volume); why != "" {
				checks = append(checks, warning("policy "+p.Name, volume+": "+why, "see fermata volume list --explain")...)
			}
		}
	}
	return checks
}

// untaken says why a policy's volume cannot be in a set; empty: as far as is seen it can. Devices are the daemon's to know.
func untaken(h Host, volume string) string {
	if strings.HasPrefix(volume, "/dev/") {
		return ""
	}
	i := slices.IndexFunc(h.Mount, func(m Mount) bool { return m.Point == volume })
	switch {
	case i < 0:
		return "nothing that could be in a set is mounted there"
	case h.Mount[i].Provider == "" && h.Mount[i].Why != "":
		return h.Mount[i].Why
	}
	return ""
}
