package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"gopkg.in/yaml.v3"
)

// Consistency is what a finished set can claim, and the least of it that a policy accepts.
type Consistency string

const (
	// ConsistencyApplication: the writers held still and said so.
	ConsistencyApplication Consistency = "application"
	// ConsistencyFilesystem: the filesystems were frozen: clean, without replay of a journal.
	ConsistencyFilesystem Consistency = "filesystem"
	// ConsistencyCrash: the volumes show one instant, as a power cut would.
	ConsistencyCrash Consistency = "crash"
)

// OnFailure says what a failure costs: the set, or some of its consistency.
type OnFailure string

const (
	// OnFailureAbort deletes the set.
	OnFailureAbort OnFailure = "abort"
	// OnFailureDegrade keeps the set, with the reason and a lower consistency.
	OnFailureDegrade OnFailure = "degrade"
)

// Method says what a finished set is made of.
type Method string

const (
	// MethodCopyOnWrite leaves the snapshots as the providers made them.
	MethodCopyOnWrite Method = "copy-on-write"
	// MethodClone copies them in full, after the set is taken.
	MethodClone Method = "clone"
)

// Policy is a named kind of snapshot set: the settings of one file in policies.d.
type Policy struct {
	Name        string            // 1 to 64 of A-Za-z0-9_-, the first not -, and not manual; default the file's base name
	Description string            // at most 1024 bytes
	Volumes     []string          // mount points or devices, absolute and clean, 1 to 256, distinct
	Writers     []string          // names of existing Writers, at most 64, distinct
	Provider    string            // name of an enabled Provider; "" to have one chosen for each volume
	Providers   map[string]string // for single volumes: path of one of Volumes → name of an enabled Provider
	COW         COW               // how large copy-on-write areas are; zero: the providers decide
	Consistency Consistency       // the least that is acceptable; default application with writers, else filesystem
	Method      Method            // default copy-on-write
	Clone       Clone             // of MethodClone
	OnFailure   OnFailure         // default abort; degrade never goes below Consistency
	Limits      Limits            // the daemon's, where the policy does not set its own
	Retry       Retry             // after a broken hold or a time-out
	Schedule    Schedule          // when it runs by itself
	Retention   Retention         // which sets are kept
	Labels      map[string]string // at most 64, for requesters to find sets by
	File        string            // where it was read from
	Changed     time.Time         // when that was changed last, on this host
}

// Retry says how often a set that failed by chance (a hold broken, a time-out) is tried again.
type Retry struct {
	Count int           // 0 to 10; default 0
	Wait  time.Duration // before each further try, 0 to 1h; default 10s
}

// Clone says where full copies go, and how.
type Clone struct {
	Directory string // absolute and clean; required by MethodClone
	Rate      Size   // bytes a second, at least 64K; 0: no limit
	Keep      bool   // keep the snapshots that were copied
}

// leastRate is the least that a copy can be limited to, in bytes a second.
const leastRate = 64 << 10

// defaultPolicy is a policy file's content before it is read.
func defaultPolicy(name string, limits Limits) Policy {
	return Policy{Name: name, Method: MethodCopyOnWrite, OnFailure: OnFailureAbort, Limits: limits, Retry: Retry{Wait: 10 * time.Second},
		Schedule: Schedule{Persistent: true}, Retention: Retention{Minimum: 1}}
}

var policySchema = mapping(
	key("name", func(p *Policy) *string { return &p.Name }, nameText()),
	key("description", func(p *Policy) *string { return &p.Description }, text("a text", 1024)),
	required(key("volumes", func(p *Policy) *[]string { return &p.Volumes }, distinct(list(pathText(), 1, 256)))),
	key("writers", func(p *Policy) *[]string { return &p.Writers }, distinct(list(nameText(), 0, 64))),
	key("provider", func(p *Policy) *Policy { return p }, providerChoice()),
	key("cow", func(p *Policy) *COW { return &p.COW }, cow()),
	key("consistency", func(p *Policy) *Consistency { return &p.Consistency },
		choice(ConsistencyApplication, ConsistencyFilesystem, ConsistencyCrash)),
	key("method", func(p *Policy) *Method { return &p.Method }, choice(MethodCopyOnWrite, MethodClone)),
	key("clone", func(p *Policy) *Clone { return &p.Clone }, mapping(
		key("directory", func(c *Clone) *string { return &c.Directory }, pathText()),
		key("rate", func(c *Clone) *Size { return &c.Rate }, scalar("a size", ParseRate)),
		key("keep", func(c *Clone) *bool { return &c.Keep }, boolean()),
	)),
	key("on_failure", func(p *Policy) *OnFailure { return &p.OnFailure }, choice(OnFailureAbort, OnFailureDegrade)),
	key("limits", func(p *Policy) *Limits { return &p.Limits },
		mapping(limitFields(func(l *Limits) *Limits { return l })...)),
	key("retry", func(p *Policy) *Retry { return &p.Retry }, mapping(
		key("count", func(r *Retry) *int { return &r.Count }, integer(0, 10)),
		key("wait", func(r *Retry) *time.Duration { return &r.Wait }, duration(0, time.Hour)),
	)),
	key("schedule", func(p *Policy) *Schedule { return &p.Schedule }, scheduleSchema),
	key("retention", func(p *Policy) *Retention { return &p.Retention }, retentionSchema),
	key("labels", func(p *Policy) *map[string]string { return &p.Labels }, dictionary(checkLabel, text("a text", 256), 64)),
)

var labelPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_./-]{0,62}$`)

func checkLabel(s string) error {
	if !labelPattern.MatchString(s) {
		return fmt.Errorf("%s is no label: 1 to 63 of A-Z, a-z, 0-9, -, _, . and / are allowed, beginning with a letter or digit", quote(s))
	}
	return nil
}

// checkPolicy fills in what depends on other keys, and resolves the references to writers and
// providers.
func (c *Config) checkPolicy(d *decoder, p *Policy) {
	if !d.has("consistency") {
		p.Consistency = ConsistencyFilesystem
		if len(p.Writers) > 0 {
			p.Consistency = ConsistencyApplication
		}
	}
	if p.Consistency == ConsistencyApplication {
		if len(p.Writers) == 0 && !d.broken("writers") {
			d.errorf("consistency", "application consistency takes writers: name them in writers, or ask for filesystem")
		}
		if p.OnFailure == OnFailureDegrade {
			d.warnf("on_failure", "degrade has no effect: this policy accepts nothing less than application consistency; add consistency: filesystem or crash")
		}
	}
	if p.Name == "manual" {
		d.errorf("name", "%s is where sets without a policy are mounted: give the policy another name", quote(p.Name))
	}
	switch {
	case p.Method == MethodClone && p.Clone.Directory == "" && !d.broken("clone") && !d.broken("clone.directory"):
		d.errorf("method", "clone takes a directory for the copies: name it in clone.directory")
	case p.Method != MethodClone && d.has("clone") && !d.broken("method"):
		d.warnf("clone", "this has no effect without method: clone")
	}
	checkSchedule(d, &p.Schedule)
	checkRetention(d, p.Retention)
	for i, name := range p.Writers {
		if name == "" {
			continue // reported when it was read
		}
		if _, err := c.Writer(name); err != nil {
			d.errorf(index("writers", i), "%v", err)
		}
	}
	if p.Provider != "" {
		c.checkChoice(d, "provider", p.Provider)
	}
	for _, volume := range slices.Sorted(maps.Keys(p.Providers)) {
		path := join("provider", volume)
		if !slices.Contains(p.Volumes, volume) && !d.broken("volumes") {
			d.errorf(path, "%s is none of the volumes", quote(volume))
		}
		c.checkChoice(d, path, p.Providers[volume])
	}
}

// checkChoice resolves a reference to a provider.
func (c *Config) checkChoice(d *decoder, path, name string) {
	switch provider, err := c.Provider(name); {
	case err != nil:
		d.errorf(path, "%v", err)
	case !provider.Enabled:
		d.errorf(path, "provider %q is switched off in %s", name, provider.File)
	}
}

// providerChoice reads the name of the provider for every volume, or a mapping from single volumes to names.
func providerChoice() reader[Policy] {
	one, each := nameText(), dictionary(checkVolume, nameText(), 256)
	return reader[Policy]{read: func(d *decoder, path string, n *yaml.Node, into *Policy) {
		if n.Kind == yaml.MappingNode {
			each.read(d, path, n, &into.Providers)
			return
		}
		one.read(d, path, n, &into.Provider)
	}}
}

func checkVolume(s string) error {
	if !filepath.IsAbs(s) || filepath.Clean(s) != s {
		return fmt.Errorf("%s is no volume: an absolute, clean path of one of the volumes is wanted", quote(s))
	}
	return nil
}

// ParseRate reads how many bytes a second a copy may take: a size of at least 64K, or 0 for no limit.
func ParseRate(text string) (Size, error) {
	rate, err := ParseSize(text)
	if err == nil && rate > 0 && rate < leastRate {
		err = fmt.Errorf("%s is too little: a rate is at least %v a second, or 0 for no limit", quote(text), Size(leastRate))
	}
	return rate, err
}
