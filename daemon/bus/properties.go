package bus

import (
	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

const propertiesInterface = "org.freedesktop.DBus.Properties"

// interfaces are the values of an object: interface to property to value.
type interfaces map[string]map[string]dbus.Variant

// propertiesOf is the standard interface over a function that reads the object at a path.
func (l *link) propertiesOf(read func(dbus.ObjectPath) (interfaces, error)) iface {
	return iface{
		name: propertiesInterface,
		methods: []method{
			{name: "Get", action: Read, about: aboutObject, in: "interface name", out: "value",
				fn: func(c call, i, name string) (dbus.Variant, error) {
					all, err := one(read, c.path, i)
					if err != nil {
						return dbus.MakeVariant(""), err
					}
					v, ok := all[name]
					if !ok {
						return dbus.MakeVariant(""), dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty",
							[]any{i + " has no property " + shorten(name)})
					}
					return v, nil
				}},
			{name: "GetAll", action: Read, about: aboutObject, in: "interface", out: "values",
				fn: func(c call, i string) (map[string]dbus.Variant, error) { return one(read, c.path, i) }},
			{name: "Set", in: "interface name value",
				fn: func(_ call, i, name string, _ dbus.Variant) error {
					return dbus.NewError("org.freedesktop.DBus.Error.PropertyReadOnly",
						[]any{"property " + shorten(name) + " cannot be set"})
				}},
		},
		signals: []signal{{name: "PropertiesChanged", args: []arg{
			{"interface", ""}, {"changed", map[string]dbus.Variant{}}, {"invalidated", []string{}},
		}}},
	}
}

// one interface's properties; the empty name means the only one that has any.
func one(read func(dbus.ObjectPath) (interfaces, error), path dbus.ObjectPath, name string) (map[string]dbus.Variant, error) {
	all, err := read(path)
	if err != nil {
		return nil, err
	}
	for i, values := range all {
		if i == name || name == "" && len(values) > 0 {
			return values, nil
		}
	}
	return nil, dbus.NewError("org.freedesktop.DBus.Error.UnknownInterface", []any{"there is no interface " + shorten(name) + " here"})
}

func (l *link) managerProperties(dbus.ObjectPath) (interfaces, error) {
	m := l.manager()
	return interfaces{m.name: m.values(l.svc)}, nil
}

func (l *link) setProperties(path dbus.ObjectPath) (interfaces, error) {
	m, err := l.manifestAt(path)
	if err != nil {
		return nil, err
	}
	return setInterfaces(m), nil
}

func (l *link) jobProperties(path dbus.ObjectPath) (interfaces, error) {
	j, err := l.jobs.find(path)
	if err != nil {
		return nil, err
	}
	return jobInterfaces(j), nil
}

func setInterfaces(m *api.Manifest) interfaces {
	return interfaces{api.SetInterface: iface{properties: setTable}.values(m)}
}

func jobInterfaces(j *job) interfaces {
	return interfaces{api.JobInterface: iface{properties: jobTable}.values(j)}
}

// objectManager is the standard interface that gives the whole tree at once.
func (l *link) objectManager() iface {
	return iface{
		name: "org.freedesktop.DBus.ObjectManager",
		methods: []method{
			{name: "GetManagedObjects", action: Read, out: "objects",
				fn: func(call) (map[dbus.ObjectPath]map[string]map[string]dbus.Variant, error) {
					all := map[dbus.ObjectPath]map[string]map[string]dbus.Variant{}
					sets := l.svc.Sets()
					for i := range sets {
						if onBus(sets[i].ID) {
							all[setPath(sets[i].ID)] = setInterfaces(&sets[i])
						}
					}
					for _, j := range l.jobs.list() {
						all[j.path()] = jobInterfaces(j)
					}
					return all, nil
				}},
		},
		signals: []signal{
			{name: "InterfacesAdded", args: []arg{{"object", dbus.ObjectPath("")}, {"interfaces", map[string]map[string]dbus.Variant{}}}},
			{name: "InterfacesRemoved", args: []arg{{"object", dbus.ObjectPath("")}, {"interfaces", []string{}}}},
		},
	}
}
