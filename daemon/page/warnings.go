package page

import (
	"cmp"
	"fmt"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/human"
)

// warning is something that somebody should look at.
type warning struct{ Level, Text string }

// frozenLong is how long no set holds filesystems: the longest limit of a freeze window.
const frozenLong = time.Minute

// maxWarnings are shown; the others are counted.
const maxWarnings = 30

// warningsOf lists what is wrong, the critical first.
func warningsOf(o *api.Overview, err error, now time.Time) []warning {
	var critical, other []warning
	add := func(grave bool, format string, a ...any) {
		if grave {
			critical = append(critical, warning{"critical", fmt.Sprintf(format, a...)})
		} else {
			other = append(other, warning{"warning", fmt.Sprintf(format, a...)})
		}
	}
	if err != nil {
		seen := ""
		if o != nil {
			seen = " What follows is what it said last."
		}
		add(true, "fermatad does not answer: %v. No sets are taken and no pools are watched until it runs (systemctl status fermatad); with idle_exit in fermata.yaml it ends when nobody asks, and the next request starts it.%s", err, seen)
	}
	if o == nil {
		return critical
	}
	if since := now.Sub(o.FrozenSince); o.Frozen > 0 && since > frozenLong && err == nil {
		add(true, "%s frozen for %s: fermata thaw releases what is held.", filesystems(o.Frozen), human.Roughly(since))
	}
	for _, p := range append(o.Pools[:len(o.Pools):len(o.Pools)], o.Areas...) {
		if p.Level != "" && p.Level != "ok" {
			add(p.Level != "warning", "%s: %s.", p.Name, p.Reason)
		}
	}
	for _, g := range o.Groups {
		switch {
		case g.Problem != "":
			add(false, "Volume group %s cannot be read: %s.", g.Name, g.Problem)
		case g.Level != "" && g.Level != "ok":
			add(g.Level != "warning", "%s: %s.", g.Name, g.Reason)
		}
	}
	if o.PoolsUnseen != "" {
		add(false, "Not every pool can be watched: %s.", o.PoolsUnseen)
	}
	said := map[string]bool{} // a bad file is a problem of the configuration too
	for _, p := range o.Policies {
		said[p.Problem] = true
		switch run := p.LastRun; {
		case p.Problem != "":
			add(true, "Policy %s is disabled: %s.", p.Name, p.Problem)
		case run != nil && run.Error != "":
			add(outcomeLevel(run.Outcome) == "critical", "The last request by policy %s made no set: %s.", p.Name, run.Error)
		}
		last := cmp.Or(p.Last, p.Changed)
		if since := now.Sub(last); p.Interval > 0 && !last.IsZero() && since > late(p.Interval) {
			add(true, "Policy %s has no good set that is younger than %s.", p.Name, human.Roughly(since))
		}
	}
	for _, w := range o.Writers {
		said[w.Problem] = true
		switch {
		case w.Problem != "":
			add(true, "Writer %s cannot be used: %s.", w.Name, w.Problem)
		case w.Last != nil && w.Last.Error != "":
			add(w.Required, "Writer %s failed the last time: %s.", w.Name, w.Last.Error)
		}
	}
	if o.Damaged > 0 {
		add(false, "%s lost a snapshot: fermata snapshot show says which.", haveSets(o.Damaged))
	}
	for _, p := range o.Problems {
		if !said[p] {
			add(false, "%s", p)
		}
	}
	all := append(critical, other...)
	if n := len(all) - maxWarnings; n > 0 {
		all = append(all[:maxWarnings], warning{"warning", fmt.Sprintf("And %d more; fermata status shows all problems.", n)})
	}
	return all
}

// late is how old the newest set of a policy with a schedule may be, or its file if there is none, as in the alert FermataPolicyStale.
func late(interval time.Duration) time.Duration { return interval + interval/10 + 15*time.Minute }

// verdict is all of it in a few words.
func verdict(all []warning, err error) (text, mood string) {
	critical := 0
	for _, w := range all {
		if w.Level == "critical" {
			critical++
		}
	}
	switch {
	case err != nil:
		return "The daemon does not answer", "critical"
	case critical > 0:
		return human.Plural(len(all), "warning") + ", " + fmt.Sprint(critical) + " critical", "critical"
	case len(all) > 0:
		return human.Plural(len(all), "warning"), "warning"
	}
	return "All is well", "ok"
}

func filesystems(n int) string {
	if n == 1 {
		return "1 filesystem has been"
	}
	return fmt.Sprintf("%d filesystems have been", n)
}

func haveSets(n int) string {
	if n == 1 {
		return "1 set has"
	}
	return fmt.Sprintf("%d sets have", n)
}
