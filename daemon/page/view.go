package page

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/human"
)

// view is what the template shows: words and places, nothing to be computed.
type view struct {
	Title, Host   string
	Verdict, Mood string // Mood is ok, warning or critical
	Facts         []fact
	Warnings      []warning
	Known         bool // there is an overview
	Pools, Areas  []pool
	Groups        []pool
	AreasText     string
	PoolsSeen     *instant
	Policies      []policyRow
	SetsText      string
	Sets          []set
	Writers       []writer
	Seen          *instant
}

type fact struct{ Name, Value string }

// instant is a time in words, and exactly.
type instant struct{ Text, Exact string }

type pool struct {
	Name, Level, Done string // Done was what was done about it last
	Fills             []fill
}

// fill is how full something is.
type fill struct {
	What, Text, Until, Level string
	Percent                  string
}

type policyRow struct {
	Name, Of string
	Last     *result
	Newest   *instant
	Sets     int
}

type result struct {
	Word, Level, Text string
	Time              *instant
}

type set struct {
	ID, Policy, Claim, Level, Window string
	Created                          *instant
	Reasons                          []string
	Timeline                         *drawing
}

type writer struct {
	Name, Sub, State, Level, Text, Rank string
	Last                                *instant
}

func viewOf(o *api.Overview, err error, now time.Time) view {
	v := view{Title: "Fermata", Warnings: warningsOf(o, err, now)}
	v.Verdict, v.Mood = verdict(v.Warnings, err)
	if o == nil {
		return v
	}
	at := clock{now}
	v.Known, v.Host, v.Title = true, o.Host, "Fermata on "+o.Host
	v.Seen, v.PoolsSeen = at.the(o.Time), at.the(o.PoolsSeen)
	v.Facts = factsOf(o, err, at)
	for _, p := range o.Pools {
		v.Pools = append(v.Pools, poolOf(p, at))
	}
	for _, p := range o.Areas {
		v.Areas = append(v.Areas, areaOf(p))
	}
	for _, g := range o.Groups {
		v.Groups = append(v.Groups, groupOf(g))
	}
	v.AreasText = human.Plural(o.AreaCount, "copy-on-write area")
	if n := len(o.Areas); n < o.AreaCount {
		v.AreasText = fmt.Sprintf("The most urgent %d of %s", n, v.AreasText)
	}
	for _, p := range o.Policies {
		v.Policies = append(v.Policies, policyOf(p, at))
	}
	v.SetsText = setsText(o)
	for _, m := range o.Sets {
		v.Sets = append(v.Sets, setOf(m, at))
	}
	for _, w := range o.Writers {
		v.Writers = append(v.Writers, writerOf(w, at))
	}
	return v
}

func factsOf(o *api.Overview, err error, at clock) []fact {
	doing := "nothing"
	switch {
	case err != nil:
		doing = "unknown"
	case o.Running != "":
		doing = "taking " + o.Running + ", phase " + o.Phase
	}
	facts := []fact{{"Doing", doing}, {"Sets", fmt.Sprint(o.SetCount)}, {"Version", o.Version}}
	if o.Waiting > 0 {
		facts = append(facts, fact{"Waiting", human.Plural(o.Waiting, "request")})
	}
	if started := at.the(o.Started); started != nil {
		facts = append(facts, fact{"Started", started.Text})
	}
	return facts
}

func setsText(o *api.Overview) string {
	switch n := len(o.Sets); {
	case o.SetCount == 0:
		return "There is no set."
	case n < o.SetCount:
		return fmt.Sprintf("The newest %d of %d; fermata snapshot list shows all.", n, o.SetCount)
	}
	return human.Plural(o.SetCount, "set") + ", the newest first."
}

// clock says when something was, as seen from an instant.
type clock struct{ now time.Time }

// the instant; nil if there is none.
func (c clock) the(t time.Time) *instant {
	if t.IsZero() {
		return nil
	}
	t = t.In(c.now.Location())
	i := instant{t.Format("2006-01-02 15:04"), t.Format("2006-01-02T15:04:05Z07:00")}
	switch ago := c.now.Sub(t); {
	case ago < -time.Minute: // clocks differ
	case ago < 2*time.Second:
		i.Text = "just now"
	case ago < 48*time.Hour:
		i.Text = strings.TrimSuffix(strings.TrimSuffix(human.Roughly(ago), " 0m"), " 0h") + " ago"
	}
	return &i
}

func poolOf(p api.Pool, at clock) pool {
	x := pool{Name: p.Name, Level: level(p.Level), Fills: []fill{
		fillOf("Data", p.Used, p.Size, p.Trend, p.Level), fillOf("Metadata", p.MetadataUsed, p.MetadataSize, p.MetadataTrend, p.Level),
	}}
	if a := p.LastAct; a != nil {
		x.Done = a.Act + ": " + a.Outcome
		if when := at.the(a.Time); when != nil {
			x.Done += ", " + when.Text
		}
	}
	return x
}

func areaOf(p api.Pool) pool {
	return pool{Name: p.Name, Level: level(p.Level), Fills: []fill{fillOf("Copy-on-write area", p.Used, p.Size, p.Trend, p.Level)}}
}

func groupOf(g api.Group) pool {
	x := pool{Name: g.Name, Level: level(g.Level), Fills: []fill{fillOf("In use", g.Size-min(g.Free, g.Size), g.Size, api.Trend{}, g.Level)}}
	x.Fills[0].Until = "nothing is taken from it"
	if g.Used {
		x.Fills[0].Until = human.Size(g.Free) + " free"
	}
	if g.Problem != "" {
		x.Fills[0].Until = "cannot be read: " + g.Problem
	}
	return x
}

// level is a word of api.Pool's; nobody watches: unknown.
func level(l string) string { return cmp.Or(l, "unknown") }

// fillOf has the colour of the pool's level if it is what is full.
func fillOf(what string, used, size uint64, t api.Trend, l string) fill {
	f := fill{What: what, Level: "ok"}
	if size == 0 {
		f.Text = "size unknown"
		return f
	}
	part := min(100*float64(used)/float64(size), 100)
	f.Text = fmt.Sprintf("%.1f\u00a0%% of %s", part, human.Size(size))
	if part > 0 {
		f.Percent = fmt.Sprintf("%.2f", max(part, 0.5))
	}
	if part >= 70 {
		f.Level = level(l)
	}
	switch {
	case t.FullIn > 0:
		f.Until = "full in " + human.Roughly(t.FullIn)
	case t.Steady:
		f.Until = "does not grow"
	default:
		f.Until = "no forecast yet"
	}
	return f
}

func policyOf(p api.Policy, at clock) policyRow {
	r := policyRow{Name: p.Name, Of: strings.Join(p.Volumes, ", "), Sets: p.Sets, Newest: at.the(p.Last)}
	switch run := p.LastRun; {
	case p.Problem != "":
		r.Last = &result{Word: "disabled", Level: "critical", Text: p.Problem}
	case run != nil:
		r.Last = &result{Word: run.Outcome, Level: outcomeLevel(run.Outcome), Text: run.Error, Time: at.the(run.Time)}
	}
	return r
}

func outcomeLevel(outcome string) string {
	switch outcome {
	case "ok":
		return "ok"
	case "degraded", "cancelled", "busy":
		return "warning"
	}
	return "critical"
}

func setOf(m api.Manifest, at clock) set {
	s := set{ID: m.ID, Policy: cmp.Or(m.Policy, "by volumes"), Claim: string(m.Consistency), Level: "ok", Created: at.the(m.Created), Reasons: m.Reasons}
	switch {
	case m.State == api.Damaged:
		s.Claim, s.Level = "damaged", "critical"
	case m.State == api.Cloning:
		s.Claim, s.Level = "cloning", ""
	case len(m.Reasons) > 0:
		s.Level = "warning"
	}
	if s.Created == nil {
		s.Created = &instant{Text: "at an unknown time"}
	}
	if m.Window > 0 {
		s.Window = human.Span(m.Window)
	}
	s.Timeline = draw(m)
	return s
}

func writerOf(w api.Writer, at clock) writer {
	x := writer{Name: w.Name, Sub: w.Type, State: "not asked yet", Rank: w.Level}
	if !w.Required && w.Level != "" {
		x.Rank += ", optional"
	}
	switch {
	case w.Problem != "":
		x.State, x.Level, x.Text = "unusable", "critical", w.Problem
	case w.Last != nil && w.Last.Error != "":
		x.State, x.Level, x.Text = cmp.Or(w.Last.State, "failed"), "critical", w.Last.Error
	case w.Last != nil:
		x.State, x.Level = w.Last.State, "ok"
	}
	if w.Last != nil {
		x.Last = at.the(w.Last.Time)
	}
	return x
}
