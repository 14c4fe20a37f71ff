package daemon

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/writers"
)

// writer is a writer by its name: as a file declares it, or else as a service has registered it. What components a service
// has, it knows itself, unless the file says; and so whether it wants to hear reports.
func (d *Daemon) writer(name string) (config.Writer, error) {
	w, err := d.o.Config.Writer(name)
	e, registered := d.registered(name)
	switch {
	case errors.Is(err, config.ErrUnknown) && registered:
		return e.Writer, nil
	case err == nil && registered:
		w.Report = w.Report || e.Writer.Report
		if len(w.Components) == 0 {
			w.Components = e.Writer.Components
		}
	}
	return w, err
}

func (d *Daemon) registered(name string) (writers.Entry, bool) {
	if d.o.Registry == nil {
		return writers.Entry{}, false
	}
	return d.o.Registry.Lookup(name)
}

// Writers lists the declared writers, and those that are registered without a declaration. One that cannot be used comes with
// its problem.
func (d *Daemon) Writers() []api.Writer {
	return d.listWriters(func(c config.Writer) error {
		_, err := d.o.NewWriter(c)
		return err
	})
}

// listWriters is Writers, with what tells of a declared one whether it can be used.
func (d *Daemon) listWriters(usable func(config.Writer) error) []api.Writer {
	names := map[string]bool{}
	for name := range d.o.Config.Writers {
		names[name] = true
	}
	if d.o.Registry != nil {
		for _, e := range d.o.Registry.List() {
			names[e.Writer.Name] = true
		}
	}
	var out []api.Writer
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c, err := d.writer(name)
		if err != nil {
			continue // it has just left
		}
		w := describeWriter(c)
		e, registered := d.registered(name)
		w.Registered = e.Owner
		if err := usable(c); err != nil {
			w.Problem = err.Error()
		} else if c.Type == config.WriterDBus && !registered {
			w.Problem = "no service has registered it"
		}
		out = append(out, d.withPast(w))
	}
	for _, p := range d.o.Config.Problems.Errors() {
		if strings.HasPrefix(p.File, d.o.Config.Dir+"/writers.d/") {
			out = append(out, api.Writer{Name: p.File, Problem: p.Error()})
		}
	}
	return out
}

func describeWriter(c config.Writer) api.Writer {
	w := api.Writer{Name: c.Name, Type: string(c.Type), Level: string(c.Level), Required: c.Required, OnFailure: string(c.OnFailure)}
	for _, x := range c.Components {
		w.Components = append(w.Components, api.Component{Name: x.Name, Paths: x.Paths, Excludes: x.Excludes, LogFiles: x.LogFiles, RestoreMethod: x.RestoreMethod})
	}
	return w
}

// releaseUnits thaws what a writer that has died has left frozen. It is called while none is at work.
func (d *Daemon) releaseUnits(ctx context.Context) error {
	if d.o.ReleaseUnits == nil {
		return nil
	}
	released, err := d.o.ReleaseUnits(ctx)
	for _, name := range released {
		d.recoveredf("thawed unit %s, which its writer had left frozen", name)
	}
	return err
}
