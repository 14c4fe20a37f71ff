package bus

import (
	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// set is the interface of one snapshot set.
func (l *link) set() iface {
	return iface{
		name: api.SetInterface,
		doc:  "A finished snapshot set.",
		methods: []method{
			{name: "Delete", action: Delete, about: aboutObject, out: "job", doc: "Deletes the set.",
				fn: func(c call) (dbus.ObjectPath, error) {
					id, err := l.setAt(c.path)
					if err != nil {
						return "/", err
					}
					return l.deleteSet(c, id)
				}},
			{name: "Mount", action: Mount, about: aboutObject, in: "options", out: "job", doc: "Mounts the set. Options: writable b, target s.",
				fn: func(c call, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
					id, err := l.setAt(c.path)
					if err != nil {
						return "/", err
					}
					return l.mountSet(c, id, o)
				}},
			{name: "Umount", action: Mount, about: aboutObject, out: "job", doc: "Unmounts the set.",
				fn: func(c call) (dbus.ObjectPath, error) {
					id, err := l.setAt(c.path)
					if err != nil {
						return "/", err
					}
					return l.umountSet(c, id)
				}},
			{name: "Resize", action: Resize, about: aboutObject, in: "options", out: "job",
				doc: "Grows the copy-on-write areas of the set's snapshots. Options: volume s, size_bytes t, grow b.",
				fn: func(c call, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
					id, err := l.setAt(c.path)
					if err != nil {
						return "/", err
					}
					return l.resizeSet(c, id, o)
				}},
			{name: "Verify", action: Verify, about: aboutObject, out: "job", doc: "Looks whether the set can be used.",
				fn: func(c call) (dbus.ObjectPath, error) {
					id, err := l.setAt(c.path)
					if err != nil {
						return "/", err
					}
					return l.verifySet(c, id)
				}},
			{name: "Report", action: Report, about: aboutObject, in: "options", out: "job",
				doc: "Says how the backup went that was made of the set. Options: outcome s (ok, failed), force b.",
				fn: func(c call, o map[string]dbus.Variant) (dbus.ObjectPath, error) {
					id, err := l.setAt(c.path)
					if err != nil {
						return "/", err
					}
					return l.reportSet(c, id, o)
				}},
		},
		properties: setTable,
	}
}

var setTable = []property{
	prop("Id", "const", "The set's id; ids sort by time.", func(m *api.Manifest) string { return m.ID }),
	prop("Policy", "const", "The policy that it was taken by, or empty.", func(m *api.Manifest) string { return m.Policy }),
	prop("Created", "const", "The instant that the set shows, microseconds since 1970.", func(m *api.Manifest) uint64 { return uint64(max(m.Created.UnixMicro(), 0)) }),
	prop("Consistency", "const", "crash, filesystem or application.", func(m *api.Manifest) string { return string(m.Consistency) }),
	prop("State", "true", "complete or damaged.", func(m *api.Manifest) string { return string(m.State) }),
	prop("Manifest", "true", "The whole manifest, as JSON.", manifestJSON),
}

func manifestJSON(m *api.Manifest) string {
	text, err := toJSON(m)
	if err != nil {
		return "{}"
	}
	return text
}

func setPath(id string) dbus.ObjectPath { return setRoot + dbus.ObjectPath("/"+id) }

// setAt is the full id of the set at a path.
func (l *link) setAt(path dbus.ObjectPath) (string, error) {
	m, err := l.manifestAt(path)
	if err != nil {
		return "", err
	}
	return m.ID, nil
}

func (l *link) manifestAt(path dbus.ObjectPath) (*api.Manifest, error) {
	if id, ok := child(string(setRoot), path); ok {
		sets := l.svc.Sets()
		for i := range sets {
			if sets[i].ID == id {
				return &sets[i], nil
			}
		}
	}
	return nil, unknownObject(path)
}
