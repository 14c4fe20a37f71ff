package bus

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Details are what an authorizer is told of a call beside its action, for rules that allow something of one policy only.
//
// "policy" is the policy that the call is about: the one that a set is to be taken by, exactly as it stands in its file, or the one that
// the set was taken by that is named. A request that overrides anything of its policy has "overrides" instead, the options that do so.
// "set" is the id of the set that is named, "writer" the writer's name. What is not known, or not of a policy, is missing.
type Details map[string]string

// about finds the details of a call. It may replace arguments, so that what was allowed is what is done.
type about func(l *link, path dbus.ObjectPath, args []reflect.Value) Details

// aboutSet is a call whose first argument names a set. It is about that one from then on, even if the name is soon that of another.
func aboutSet(l *link, _ dbus.ObjectPath, args []reflect.Value) Details {
	m, err := resolve(l.svc.Sets(), args[0].String())
	if err != nil {
		return nil // as the call will say
	}
	args[0] = reflect.ValueOf(m.ID)
	return ofSet(m.ID, m.Policy).elsewhere(args)
}

// aboutObject is a call to a set, or to a job.
func aboutObject(l *link, path dbus.ObjectPath, args []reflect.Value) Details {
	if j, err := l.jobs.find(path); err == nil {
		return j.details
	}
	if m, err := l.manifestAt(path); err == nil {
		return ofSet(m.ID, m.Policy).elsewhere(args)
	}
	return nil
}

func ofSet(id, policy string) Details {
	d := Details{"set": id}
	if policy != "" {
		d["policy"] = policy
	}
	return d
}

// elsewhere are the details of a call that says where to mount: who may do that can put files anywhere, whatever they are of.
func (d Details) elsewhere(args []reflect.Value) Details {
	for _, arg := range args {
		if o, ok := arg.Interface().(map[string]dbus.Variant); ok {
			if _, says := o["target"]; says {
				delete(d, "policy")
				d["overrides"] = "target"
			}
		}
	}
	return d
}

// aboutWriter is a call whose first argument names a writer.
func aboutWriter(_ *link, _ dbus.ObjectPath, args []reflect.Value) Details {
	if bounded(args[0].String(), maxNameLength) != nil {
		return nil
	}
	return Details{"writer": args[0].String()}
}

// aboutPolicy is a call whose first argument names a policy.
func aboutPolicy(_ *link, _ dbus.ObjectPath, args []reflect.Value) Details {
	if bounded(args[0].String(), maxNameLength) != nil {
		return nil
	}
	return Details{"policy": args[0].String()}
}

// modest are options of a request that take nothing away from what its policy says.
var modest = []string{"policy", "fail_if_busy", "dry_run", "detach", "retry", "retry_wait_ns", "for_ns"}

// aboutRequest is a call whose first argument is a request's options.
func aboutRequest(l *link, _ dbus.ObjectPath, args []reflect.Value) Details {
	o := args[0].Interface().(map[string]dbus.Variant)
	if ref, ok := o["set"].Value().(string); ok && ref != "" {
		m, err := resolve(l.svc.Sets(), ref)
		if err != nil {
			return nil
		}
		o = maps.Clone(o)
		o["set"] = dbus.MakeVariant(m.ID)
		args[0] = reflect.ValueOf(o)
		return ofSet(m.ID, m.Policy).elsewhere(args)
	}
	policy, _ := o["policy"].Value().(string)
	if policy == "" || bounded(policy, maxNameLength) != nil {
		return nil
	}
	var overrides []string
	for key := range o {
		if !slices.Contains(modest, key) {
			overrides = append(overrides, shorten(key))
		}
	}
	if len(overrides) > 0 {
		slices.Sort(overrides)
		return Details{"overrides": strings.ToValidUTF8(strings.Join(overrides[:min(len(overrides), maxLabels)], " "), "?")}
	}
	return Details{"policy": policy}
}
