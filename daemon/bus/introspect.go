package bus

import (
	"encoding/xml"
	"reflect"
	"strings"

	"github.com/godbus/dbus/v5"
	"github.com/godbus/dbus/v5/introspect"
)

const (
	docAnnotation   = "org.gtk.GDBus.DocString"
	emitsAnnotation = "org.freedesktop.DBus.Property.EmitsChangedSignal"
)

// describe writes an interface for introspection, from the table that dispatches it.
func (i iface) describe() introspect.Interface {
	d := introspect.Interface{Name: i.name, Annotations: doc(i.doc)}
	for _, m := range i.methods {
		in, out := m.types()
		args := append(describeArgs(m.in, in, "in"), describeArgs(m.out, out, "out")...)
		d.Methods = append(d.Methods, introspect.Method{Name: m.name, Args: args, Annotations: doc(m.doc)})
	}
	for _, s := range i.signals {
		var args []introspect.Arg
		for _, a := range s.args {
			args = append(args, introspect.Arg{Name: a.name, Type: dbus.SignatureOf(a.zero).String()})
		}
		d.Signals = append(d.Signals, introspect.Signal{Name: s.name, Args: args, Annotations: doc(s.doc)})
	}
	for _, p := range i.properties {
		d.Properties = append(d.Properties, introspect.Property{
			Name: p.name, Type: p.sig, Access: "read",
			Annotations: append(doc(p.doc), introspect.Annotation{Name: emitsAnnotation, Value: p.emits}),
		})
	}
	return d
}

func describeArgs(names string, types []reflect.Type, direction string) []introspect.Arg {
	words := strings.Fields(names)
	if len(words) != len(types) {
		panic("internal error: arguments " + names + " are not named one by one")
	}
	var args []introspect.Arg
	for i, t := range types {
		args = append(args, introspect.Arg{Name: words[i], Type: dbus.SignatureOfType(t).String(), Direction: direction})
	}
	return args
}

func doc(text string) []introspect.Annotation {
	if text == "" {
		return nil
	}
	return []introspect.Annotation{{Name: docAnnotation, Value: text}}
}

// introspectable is the standard interface at an object. A subtree answers for its root too: there it lists the
// children and has no other interface.
func (l *link) introspectable(o object) iface {
	i := iface{name: "org.freedesktop.DBus.Introspectable"}
	i.methods = []method{{name: "Introspect", out: "xml", fn: func(c call) (string, error) {
		n := introspect.Node{Name: string(c.path)}
		if !o.subtree || c.path != o.path {
			for _, f := range append(o.ifaces, i) {
				n.Interfaces = append(n.Interfaces, f.describe())
			}
		}
		if !o.subtree || c.path == o.path {
			n.Children = l.children(c.path)
		}
		text, err := xml.MarshalIndent(n, "", "  ")
		return introspect.IntrospectDeclarationString + string(text), err
	}}}
	return i
}

// children of the object at path.
func (l *link) children(path dbus.ObjectPath) []introspect.Node {
	var nodes []introspect.Node
	switch path {
	case managerPath:
		nodes = []introspect.Node{{Name: "set"}, {Name: "job"}}
	case setRoot:
		for _, m := range l.svc.Sets() {
			if onBus(m.ID) {
				nodes = append(nodes, introspect.Node{Name: m.ID})
			}
		}
	case jobRoot:
		for _, j := range l.jobs.list() {
			nodes = append(nodes, introspect.Node{Name: j.name()})
		}
	}
	return nodes
}
