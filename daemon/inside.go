package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/fsfreeze"
)

// enclose finds the volumes that need no provider, because images of the set's other volumes have all of them in it, and
// says of each other one that got no provider why that is not so; "" if there is nothing to say.
func (p *plan) enclose(grounds []fsfreeze.Ground) (why []string) {
	why = make([]string, len(p.members))
	for range p.members { // a file in a file in a file
		for i := range p.members {
			if m := &p.members[i]; m.provider == nil && m.inside == "" {
				m.inside, why[i] = p.around(*m, grounds[i])
			}
		}
	}
	return why
}

// around names the volumes of the set in which a member lies entirely: every end of its stack is a loop device, and the
// filesystem with its file is captured with the device that it is on. The member is frozen first, and what is frozen
// after it then has on its device what the member has written.
func (p plan) around(m member, g fsfreeze.Ground) (inside, why string) {
	if !m.freeze {
		return "", ""
	}
	var names []string
	elsewhere := ""
	for _, leaf := range g.Leaves {
		if leaf.File == "" {
			elsewhere = leaf.Name
			continue
		}
		i := slices.IndexFunc(p.members, func(o member) bool { return o.fs != nil && o.fs.Dev == leaf.On })
		switch {
		case i < 0:
			return "", fmt.Sprintf("it lies in %s, on no volume of the set: take that volume too", leaf.File)
		case !p.members[i].whole():
			return "", fmt.Sprintf("it lies in %s, and %s is not captured frozen with its whole device", leaf.File, p.members[i].path)
		case !slices.Contains(names, p.members[i].path):
			names = append(names, p.members[i].path)
		}
	}
	if elsewhere != "" && len(names) > 0 {
		return "", fmt.Sprintf("a part of it lies in %s, another on %s", names[0], elsewhere)
	}
	return strings.Join(names, ", "), ""
}

// whole reports whether the set will have all of the member's device, as it is when its filesystem is frozen: what a
// provider captures without a hold may be less, as a subvolume, or older.
func (m member) whole() bool { return m.freeze && (m.provider != nil || m.inside != "") }
