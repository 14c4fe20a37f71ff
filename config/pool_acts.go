package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// PoolLevel is from which level of a pool on something is done: warning, critical, exhausted, or never.
type PoolLevel string

const (
	Never     PoolLevel = "never"
	Warning   PoolLevel = "warning"
	Critical  PoolLevel = "critical"
	Exhausted PoolLevel = "exhausted"
)

// PoolActs are what is done about a pool that fills up, beside saying so. By default nothing is.
type PoolActs struct {
	Only        []string // vg/lv of the pools that acts are for; nil: all; at most 256
	Extend      PoolExtend
	Delete      PoolDelete
	Refuse      PoolRefuse
	Hook        []string      // argv of a program that is told of each change of level and each act; nil: none
	HookTimeout time.Duration // 1s to 10m; default 30s
}

// PoolExtend says when and how far a thin pool, or the copy-on-write area of one of Fermata's snapshots, is extended.
type PoolExtend struct {
	At            PoolLevel
	By            Space               // of the present size, or so much; default 20%
	Limit         Size                // of a thin pool's data; 0: none
	MetadataLimit Size                // of a thin pool's metadata; at most, and by default, LVM's own limit of 15.8 GiB
	Reserve       Space               // of the volume group stays free; default 0
	Spares        map[string][]string // by volume group: devices that are added to it when it has no room; at most 64 groups with 64 devices
}

// PoolDelete says when sets are deleted to gain room, in the order that their policy's retention gives.
type PoolDelete struct {
	Dropped PoolLevel // those that retention does not keep
	Kept    PoolLevel // those that it does, down to its minimum
}

// PoolRefuse says when no further set is taken of volumes in a pool.
type PoolRefuse struct {
	At PoolLevel
	// Within: the pool would be full in less; 0: whatever the forecast.
	Within time.Duration
	// Growth: what the volumes have written since their last set has to fit, that often; 0: not looked at. At most 100.
	Growth float64
}

// MaxPoolMetadata is how large the metadata of a thin pool can be, in bytes: LVM's DEFAULT_THIN_POOL_MAX_METADATA_SIZE (15.8 GiB), in
// whole extents of 4 MiB.
const MaxPoolMetadata = 4044 * (4 << 20)

func defaultPoolActs() PoolActs {
	return PoolActs{
		Extend:      PoolExtend{At: Never, By: Space{Percent: 20}, MetadataLimit: MaxPoolMetadata},
		Delete:      PoolDelete{Dropped: Never, Kept: Never},
		Refuse:      PoolRefuse{At: Never},
		HookTimeout: 30 * time.Second,
	}
}

// Asked reports whether anything is to be done.
func (a PoolActs) Asked() bool {
	for _, at := range []PoolLevel{a.Extend.At, a.Delete.Dropped, a.Delete.Kept} {
		if at != Never {
			return true
		}
	}
	return len(a.Hook) > 0
}

var (
	fromWarning = choice(Never, Warning, Critical, Exhausted)

	poolActFields = []field[Pools]{
		key("only", func(p *Pools) *[]string { return &p.Acts.Only }, distinct(list(text("a pool", 255, checkPool), 1, 256))),
		key("extend", func(p *Pools) *PoolExtend { return &p.Acts.Extend }, mapping(
			key("at", func(e *PoolExtend) *PoolLevel { return &e.At }, fromWarning),
			key("by", func(e *PoolExtend) *Space { return &e.By }, scalar("a space", parseStep)),
			key("limit", func(e *PoolExtend) *Size { return &e.Limit }, scalar("a size", parseSizeWithUnit)),
			key("metadata_limit", func(e *PoolExtend) *Size { return &e.MetadataLimit }, scalar("a size", parseMetadataLimit)),
			key("reserve", func(e *PoolExtend) *Space { return &e.Reserve }, space()),
			key("spares", func(e *PoolExtend) *map[string][]string { return &e.Spares },
				dictionary(checkGroup, distinct(list(pathText(), 1, 64)), 64)),
		)),
		key("delete", func(p *Pools) *PoolDelete { return &p.Acts.Delete }, mapping(
			key("dropped", func(x *PoolDelete) *PoolLevel { return &x.Dropped }, fromWarning),
			key("kept", func(x *PoolDelete) *PoolLevel { return &x.Kept }, fromWarning),
		)),
		key("refuse", func(p *Pools) *PoolRefuse { return &p.Acts.Refuse }, mapping(
			key("at", func(r *PoolRefuse) *PoolLevel { return &r.At }, fromWarning),
			key("full_within", func(r *PoolRefuse) *time.Duration { return &r.Within }, durationOrZero(time.Second, 30*24*time.Hour)),
			key("growth", func(r *PoolRefuse) *float64 { return &r.Growth }, scalar("a factor", parseFactor)),
		)),
		key("hook", func(p *Pools) *[]string { return &p.Acts.Hook }, argv()),
		key("hook_timeout", func(p *Pools) *time.Duration { return &p.Acts.HookTimeout }, duration(time.Second, 10*time.Minute)),
	}
)

// lvmName is what LVM takes for a name (lvm(8), VALID NAMES).
const lvmName = `[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,126}`

var (
	groupPattern = regexp.MustCompile(`^` + lvmName + `$`)
	poolPattern  = regexp.MustCompile(`^` + lvmName + `/` + lvmName + `$`)
)

func checkGroup(s string) error {
	if !groupPattern.MatchString(s) {
		return fmt.Errorf("%s is no name of a volume group", quote(s))
	}
	return nil
}

func checkPool(s string) error {
	if !poolPattern.MatchString(s) {
		return fmt.Errorf("%s is no name of a pool: write it like vg/pool", quote(s))
	}
	return nil
}

// parseStep reads by how much something grows: more than nothing.
func parseStep(text string) (Space, error) {
	s, err := ParseSpace(text)
	if err == nil && s == (Space{}) {
		err = fmt.Errorf("%s is nothing: write it like 20%% or 10G", quote(text))
	}
	return s, err
}

// parseSizeWithUnit reads a size above 0.
func parseSizeWithUnit(text string) (Size, error) {
	s, err := parseStep(text)
	if err == nil && s.Size == 0 {
		err = fmt.Errorf("%s is a share: a size is expected, like 500G", quote(text))
	}
	return s.Size, err
}

func parseMetadataLimit(text string) (Size, error) {
	s, err := parseSizeWithUnit(text)
	if err == nil && s > MaxPoolMetadata {
		err = fmt.Errorf("%s is more than the metadata of a thin pool can have: %v", quote(text), Size(MaxPoolMetadata))
	}
	return s, err
}

// checkPoolActs looks at the keys that depend on each other.
func checkPoolActs(d *decoder, c *Daemon) {
	a := c.Pools.Acts
	if a.Extend.At == Never && !d.broken("pools.extend.at") {
		for _, key := range []string{"by", "limit", "metadata_limit", "reserve", "spares"} {
			if path := "pools.extend." + key; d.has(path) && !d.broken(path) {
				d.warnf(path, "this has no effect without pools.extend.at")
			}
		}
	}
	rank := map[PoolLevel]int{Warning: 1, Critical: 2, Exhausted: 3, Never: 4}
	if rank[a.Delete.Kept] < rank[a.Delete.Dropped] && !d.broken("pools.delete.kept") && !d.broken("pools.delete.dropped") {
		d.errorf("pools.delete.kept", "sets that retention keeps would go before those that it drops: write dropped: %s, or sooner", a.Delete.Kept)
	}
	if a.Asked() && c.IdleExit > 0 {
		d.warnf("idle_exit", "while the daemon is not running, nobody acts on pools that fill up")
	}
	if d.has("pools.hook_timeout") && len(a.Hook) == 0 && !d.broken("pools.hook") {
		d.warnf("pools.hook_timeout", "this has no effect without pools.hook")
	}
}

// parseFactor reads a decimal number from 0 to 100.
func parseFactor(text string) (float64, error) {
	s, err := ParseSpace(text + "%")
	if err != nil || strings.HasSuffix(text, "%") {
		return 0, fmt.Errorf("%s is no factor: write a number from 0 to 100, like 1.5", quote(text))
	}
	return s.Percent, nil
}
