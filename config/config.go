// Package config reads Fermata's configuration: YAML in, validated values out. It is the only
// package that knows YAML, so that the parser can be replaced, and it does no I/O but reading files.
//
// A folder, /etc/fermata by default, holds fermata.yaml with the settings of the daemon, and
// policies.d, writers.d and providers.d with one policy, writer or provider in each *.yaml file. An
// executable file in providers.d is a provider too: a plug-in.
// Nothing of it has to exist.
//
// An administrator breaks one file at a time, and at night the other policies must still run: so a
// bad file in a .d folder disables itself and what refers to it, nothing else, while a bad
// fermata.yaml is an error of Load as a whole. Either way all problems of all files are listed with
// line and column. A key that is not known, a value out of its range, a number without a unit: all
// of them are errors, for a limit that is not the one that was meant is worse than none.
package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Dir is where the configuration of a host stands.
const Dir = "/etc/fermata"

// Config is the whole of a configuration, with all defaults filled in. It is not changed after Load.
type Config struct {
	Dir       string
	Daemon    Daemon
	Policies  map[string]Policy   // the usable ones, by name
	Writers   map[string]Writer   // the usable ones, by name
	Providers map[string]Provider // the usable ones, by name: built-in ones without a file, too; look at Enabled
	Problems  Problems            // all warnings, and the errors of the files in the .d folders

	disabled map[string]map[string]Problem // by kind ("policy") and name, the first problem of each disabled file
}

var (
	// ErrUnknown: no file defines what was asked for.
	ErrUnknown = errors.New("unknown")
	// ErrDisabled: a file defines it, but has a Problem, which the error wraps too.
	ErrDisabled = errors.New("disabled")
)

// Load reads the configuration in dir. If fermata.yaml is bad, or is not to be trusted, the error
// is of type Problems and lists the problems of the other files as well. What cannot be used in the
// .d folders is no error: see Config.Problems.
//
// When run as root, files and folders must be owned by root and not writable by others.
func Load(dir string) (*Config, error) {
	return build(filepath.Clean(dir), readAll(filepath.Clean(dir), os.Geteuid() == 0))
}

// Policy returns a policy, or an error that wraps ErrUnknown or ErrDisabled.
func (c *Config) Policy(name string) (Policy, error) {
	return lookup("policy", c.Policies, c.disabled, name)
}

// Writer returns a writer, or an error that wraps ErrUnknown or ErrDisabled.
func (c *Config) Writer(name string) (Writer, error) {
	return lookup("writer", c.Writers, c.disabled, name)
}

// Provider returns a provider, or an error that wraps ErrUnknown or ErrDisabled. One that its file
// switches off is returned, with Enabled false.
func (c *Config) Provider(name string) (Provider, error) {
	return lookup("provider", c.Providers, c.disabled, name)
}

// Disabled returns the names of what is defined but unusable, each with the first problem of its
// file. The kind is "policy", "writer" or "provider".
func (c *Config) Disabled(kind string) map[string]Problem { return maps.Clone(c.disabled[kind]) }

func lookup[T any](kind string, values map[string]T, disabled map[string]map[string]Problem, name string) (T, error) {
	v, ok := values[name]
	if ok {
		return v, nil
	}
	if problem, ok := disabled[kind][name]; ok {
		return v, fmt.Errorf("%s %s is %w: %w", kind, quote(name), ErrDisabled, problem)
	}
	names := slices.AppendSeq(slices.Collect(maps.Keys(values)), maps.Keys(disabled[kind]))
	return v, fmt.Errorf("%s %s is %w%s", kind, quote(name), ErrUnknown, didYouMean(name, names))
}

// build makes a configuration of the files that were read.
func build(dir string, files sources) (*Config, error) {
	c := &Config{Dir: dir, Daemon: defaultDaemon(), Problems: files.problems, disabled: map[string]map[string]Problem{}}
	fatal := false
	for _, s := range files.daemon {
		d := decode(s, daemonSchema, &c.Daemon)
		if !d.unread {
			checkDaemon(d, &c.Daemon)
		}
		c.Problems = append(c.Problems, d.problems...)
		fatal = fatal || d.failed()
	}

	c.Providers = folder(c, "provider", files.providers, providerSchema,
		func(name string) Provider { return Provider{Name: name} },
		func(p *Provider, s source) string { p.File = s.path; return p.Name },
		checkProvider(files.programs))
	for _, name := range providerNames() {
		if _, err := c.Provider(name); errors.Is(err, ErrUnknown) {
			c.Providers[name] = defaultProvider(name)
		}
	}
	c.plugins(files.programs)
	c.Writers = folder(c, "writer", files.writers, writerSchema,
		defaultWriter,
		func(w *Writer, s source) string { w.File = s.path; return w.Name },
		checkWriter)
	c.Policies = folder(c, "policy", files.policies, policySchema,
		func(name string) Policy { return defaultPolicy(name, c.Daemon.Limits.Limits) },
		func(p *Policy, s source) string { p.File, p.Changed = s.path, s.changed; return p.Name },
		c.checkPolicy)

	c.Problems.sort()
	if fatal {
		return nil, c.Problems
	}
	return c, nil
}

// folder reads the files of one .d folder: begin makes the defaults for a file's base name, sign
// notes the file in a value and tells its name, check looks at the value as a whole.
func folder[T any](c *Config, kind string, files []source, schema reader[T],
	begin func(string) T, sign func(*T, source) string, check func(*decoder, *T)) map[string]T {
	values, disabled, defined := map[string]T{}, map[string]Problem{}, map[string]string{}
	for _, s := range files {
		base := strings.TrimSuffix(filepath.Base(s.path), ".yaml")
		value := begin(base)
		d := decode(s, schema, &value)
		name := sign(&value, s)
		if !d.unread {
			check(d, &value)
			if !d.has("name") && !d.broken("name") {
				if err := checkName(name); err != nil {
					d.errorf("", "the file's name gives no name for the %s: %v: add name", kind, err)
				}
			}
		}
		if other, twice := defined[name]; twice {
			d.errorf("name", "%s %s is defined in %s already", kind, quote(name), other)
		}
		d.problems.sort()
		c.Problems = append(c.Problems, d.problems...)
		if d.failed() {
			if _, ok := disabled[name]; !ok {
				disabled[name] = d.problems.Errors()[0]
			}
			continue
		}
		values[name], defined[name] = value, s.path
	}
	c.disabled[kind] = disabled
	return values
}
