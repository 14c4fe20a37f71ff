package bus

import (
	"context"
	"fmt"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/fermata-project/fermata/daemon/api"
)

// iface is one D-Bus interface: the table that dispatches and that introspection is written from.
type iface struct {
	name       string
	doc        string
	methods    []method
	signals    []signal
	properties []property
}

// method is one method. Its function takes a call and then the D-Bus arguments, and returns the D-Bus results and an
// error: func(call, A…) (R…, error). Arguments and results are named in order.
type method struct {
	name   string
	action Action // what the caller must be allowed to; "" for what everybody may
	about  about  // what it is about, for who decides that; nil: nothing in particular
	in     string // names of the arguments, separated by spaces
	out    string // names of the results
	doc    string
	fn     any
}

// signal is one signal, with a zero value of each argument.
type signal struct {
	name string
	args []arg
	doc  string
}

type arg struct {
	name string
	zero any
}

// property is one read-only property.
type property struct {
	name  string
	sig   string
	emits string // EmitsChangedSignal: "const" or "true"
	doc   string
	get   func(any) any
}

// prop makes a property of objects of type T.
func prop[T, V any](name, emits, doc string, get func(T) V) property {
	var zero V
	return property{
		name: name, emits: emits, doc: doc,
		sig: dbus.SignatureOf(zero).String(),
		get: func(o any) any { return get(o.(T)) },
	}
}

// values of all properties of an object.
func (i iface) values(o any) map[string]dbus.Variant {
	m := make(map[string]dbus.Variant, len(i.properties))
	for _, p := range i.properties {
		m[p.name] = dbus.MakeVariant(p.get(o))
	}
	return m
}

// call is who called, on what.
type call struct {
	ctx    context.Context
	sender dbus.Sender
	path   dbus.ObjectPath
	link   *link
	// interactive: a person may be asked to authenticate.
	interactive bool
	details     Details
	policy      string // of the request, for people: details leave it out where more than the policy is asked for
}

// authorizeTimeout bounds a question to polkit; where a person may have to type a password it is longer.
const (
	authorizeTimeout            = 10 * time.Second
	authorizeInteractiveTimeout = 2 * time.Minute
)

var (
	typeCall    = reflect.TypeFor[call]()
	typeError   = reflect.TypeFor[error]()
	typeMessage = reflect.TypeFor[dbus.Message]()
	typeDBusErr = reflect.TypeFor[*dbus.Error]()
)

// bind turns a method into the function that godbus calls: it authorises, calls, survives a panic, and gives the error
// its name on the bus.
func (l *link) bind(m method) any {
	in, out := m.types()
	wrapped := reflect.FuncOf(append([]reflect.Type{typeMessage}, in...), append(out, typeDBusErr), false)
	fail := func(err error) []reflect.Value {
		results := make([]reflect.Value, 0, len(out)+1)
		for _, t := range out {
			results = append(results, reflect.Zero(t))
		}
		return append(results, reflect.ValueOf(toDBus(err)))
	}
	return reflect.MakeFunc(wrapped, func(args []reflect.Value) (results []reflect.Value) {
		defer func() {
			if p := recover(); p != nil {
				l.log.Error("internal error: a bus method panicked", "method", m.name, "panic", p, "stack", string(debug.Stack()))
				results = fail(fmt.Errorf("internal error: %s panicked", m.name))
			}
		}()
		msg := args[0].Interface().(dbus.Message)
		c, err := l.admit(m, &msg, args[1:])
		if err != nil {
			return fail(err)
		}
		results = reflect.ValueOf(m.fn).Call(append([]reflect.Value{reflect.ValueOf(c)}, args[1:]...))
		if err, _ := results[len(out)].Interface().(error); err != nil {
			return fail(err)
		}
		results[len(out)] = reflect.Zero(typeDBusErr)
		return results
	}).Interface()
}

// types of the D-Bus arguments and results of a method.
func (m method) types() (in, out []reflect.Type) {
	t := reflect.TypeOf(m.fn)
	if t.NumIn() == 0 || t.In(0) != typeCall || t.NumOut() == 0 || t.Out(t.NumOut()-1) != typeError {
		panic("internal error: method " + m.name + " has the wrong shape")
	}
	for i := 1; i < t.NumIn(); i++ {
		in = append(in, t.In(i))
	}
	for i := 0; i < t.NumOut()-1; i++ {
		out = append(out, t.Out(i))
	}
	return in, out
}

// admit makes the call of a message, after its sender was found to be allowed to do it. Who has started a job may read it.
func (l *link) admit(m method, msg *dbus.Message, args []reflect.Value) (call, error) {
	l.jobs.touch()
	path, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	sender, _ := msg.Headers[dbus.FieldSender].Value().(string)
	c := call{ctx: l.conn.Context(), sender: dbus.Sender(sender), path: path, link: l}
	c.interactive = msg.Flags&dbus.FlagAllowInteractiveAuthorization != 0
	if m.about != nil {
		c.details = m.about(l, path, args)
	}
	if m.action == Read {
		if j, err := l.jobs.find(path); err == nil && j.owner == c.sender {
			return c, nil
		}
	}
	if m.action == "" {
		return c, nil
	}
	return c, c.authorize(m.action, c.details)
}

// authorize is nil if the caller may do something.
func (c call) authorize(action Action, details Details) error {
	timeout := authorizeTimeout
	if c.interactive {
		timeout = authorizeInteractiveTimeout
	}
	ctx, cancel := context.WithTimeout(withInteraction(c.ctx, c.interactive), timeout)
	defer cancel()
	return c.link.auth.Authorize(ctx, c.sender, action, details)
}

// object is a place in the tree with its interfaces: one path, or, as a subtree, every path directly below it.
type object struct {
	path    dbus.ObjectPath
	subtree bool
	ifaces  []iface
}

// export puts an object on the connection, with introspection.
func (l *link) export(o object) error {
	all := append(o.ifaces, l.introspectable(o))
	for _, i := range all {
		table := make(map[string]any, len(i.methods))
		for _, m := range i.methods {
			table[m.name] = l.bind(m)
		}
		put := l.conn.ExportMethodTable
		if o.subtree {
			put = l.conn.ExportSubtreeMethodTable
		}
		if err := put(table, o.path, i.name); err != nil {
			return fmt.Errorf("cannot export %s at %s: %w", i.name, o.path, err)
		}
	}
	return nil
}

// child is the last part of a path directly below parent.
func child(parent string, path dbus.ObjectPath) (string, bool) {
	name, ok := strings.CutPrefix(string(path), parent+"/")
	return name, ok && name != "" && !strings.Contains(name, "/")
}

// errorPrefix begins the names of this service's errors; the class follows.
const errorPrefix = api.BusName + ".Error."

// toDBus names an error by its class. Errors that already have a name on the bus keep it.
func toDBus(err error) *dbus.Error {
	if e, ok := err.(*dbus.Error); ok {
		return e
	}
	return dbus.NewError(errorPrefix+string(api.Of(err)), []any{err.Error()})
}
