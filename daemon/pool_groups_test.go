package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
)

func TestConcern(t *testing.T) {
	thinPool := []pools.Pool{{Name: "vg/pool", Space: dm.Space{UUID: "LVM-abxy-tpool", Type: "thin-pool"}}}
	area := []pools.Pool{{Name: "vg/s", Space: dm.Space{UUID: "LVM-abxz", Type: "snapshot"}}}
	extend := config.PoolActs{Extend: config.PoolExtend{At: config.Warning}}
	never := config.PoolActs{Extend: config.PoolExtend{At: config.Never}}
	another := extend
	another.Only = []string{"vg/other"}
	for _, c := range []struct {
		name    string
		group   dm.Group
		pools   []pools.Pool
		volumes map[dm.Dev]bool
		acts    config.PoolActs
		want    pools.Concern
	}{
		{"nothing in it", dm.Group{UUID: "ab", Plain: []dm.Dev{1}, Thin: []dm.Dev{2}}, nil, map[dm.Dev]bool{3: true}, extend, pools.None},
		{"a pool", dm.Group{UUID: "ab"}, thinPool, nil, never, pools.Touched},
		{"a pool that is extended", dm.Group{UUID: "ab"}, thinPool, nil, extend, pools.Used},
		{"another pool is extended", dm.Group{UUID: "ab"}, thinPool, nil, another, pools.Touched},
		{"another group's pool", dm.Group{UUID: "cd"}, thinPool, nil, extend, pools.None},
		{"a copy-on-write area", dm.Group{UUID: "ab"}, area, nil, never, pools.Used},
		{"a policy's plain volume", dm.Group{UUID: "ab", Plain: []dm.Dev{1}}, nil, map[dm.Dev]bool{1: true}, never, pools.Used},
		{"a policy's plain volume, by dm", dm.Group{UUID: "ab", Plain: []dm.Dev{1}}, nil, map[dm.Dev]bool{1: false}, never, pools.Touched},
		{"a policy's thin volume", dm.Group{UUID: "ab", Thin: []dm.Dev{2}}, nil, map[dm.Dev]bool{2: true}, extend, pools.Touched},
	} {
		if got := concern(c.group, c.pools, c.volumes, c.acts); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// policyHost has a mount and a device, and nothing else may be looked at.
type policyHost struct {
	Host
	t *testing.T
}

func (policyHost) Mounts() ([]fsfreeze.Mount, error) {
	return []fsfreeze.Mount{{Point: "/srv", Dev: 11}, {Point: "/plain", Dev: 12}}, nil
}

func (h policyHost) BlockDevice(path string) (uint64, bool, error) {
	switch path {
	case "/dev/vg/v":
		return 13, true, nil
	case "/dev/vg/gone":
		return 0, false, errors.New("no such file")
	}
	h.t.Errorf("%s is looked at", path)
	return 0, false, nil
}

func TestPolicyDevices(t *testing.T) {
	d := &Daemon{o: Options{Host: policyHost{t: t}, Config: &config.Config{Policies: map[string]config.Policy{
		"a": {Volumes: []string{"/srv", "/plain", "/not/mounted"}, Provider: "thin", Providers: map[string]string{"/plain": "thick"}},
		"b": {Volumes: []string{"/dev/vg/v", "/dev/vg/gone"}},
	}}}}
	got := d.policyDevices()
	if len(got) != 3 || got[11] || !got[12] || !got[13] {
		t.Errorf("%v", got)
	}
}

func TestGroupsSeen(t *testing.T) {
	d := &Daemon{o: Options{Groups: func() []pools.Group {
		return []pools.Group{
			{Name: "vg", Size: 10, Free: 1, Used: true, Level: pools.Warning, Seen: time.Unix(1, 0)},
			{Name: "never", Err: errors.New("no")},
		}
	}}}
	got := d.groupsSeen()
	if len(got) != 2 || got[0].Level != "warning" || got[0].Free != 1 || got[1].Level != "" || got[1].Problem != "no" || !got[1].Seen.IsZero() {
		t.Errorf("%+v", got)
	}
}
