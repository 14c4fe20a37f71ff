package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/fermata-project/fermata/config/ownership"
)

// VendorPlugins is where packages put plug-ins that are to be used without further ado; those in providers.d come first.
const VendorPlugins = "/usr/lib/fermata/providers.d"

// Plugin holds the settings of a provider that is a program: see docs/providers.md.
type Plugin struct {
	Command  []string // argv; an executable of the provider's name beside its file, or without one, is meant by default
	Kind     string   // hardware or software; "": as the plug-in says
	User     string   // name or number; "": root
	Timeouts PluginTimeouts
}

// PluginTimeouts are how long a plug-in may take to answer.
type PluginTimeouts struct {
	Start  time.Duration // to the handshake, 10ms to 5m; default 5s
	Query  time.Duration // to what changes nothing, 10ms to 10m; default 10s
	Change time.Duration // to what changes something, 10ms to 24h; default 5m
	Window time.Duration // to each call of the freeze window, 1ms to 60s; default 2s
}

const pluginType = "plugin"

var pluginKind = providerKind{
	schema: providerMapping(
		required(key("type", func(p *Provider) *string { return &p.kind }, choice(pluginType))),
		key("command", func(p *Provider) *[]string { return &p.Plugin.Command }, absoluteCommand()),
		key("kind", func(p *Provider) *string { return &p.Plugin.Kind }, choice("hardware", "software")),
		key("user", func(p *Provider) *string { return &p.Plugin.User }, text("a user", 64, checkAccount)),
		key("timeouts", func(p *Provider) *PluginTimeouts { return &p.Plugin.Timeouts }, mapping(
			key("start", func(t *PluginTimeouts) *time.Duration { return &t.Start }, duration(10*time.Millisecond, 5*time.Minute)),
			key("query", func(t *PluginTimeouts) *time.Duration { return &t.Query }, duration(10*time.Millisecond, 10*time.Minute)),
			key("change", func(t *PluginTimeouts) *time.Duration { return &t.Change }, duration(10*time.Millisecond, 24*time.Hour)),
			key("window", func(t *PluginTimeouts) *time.Duration { return &t.Window }, duration(time.Millisecond, time.Minute)),
		)),
	),
}

func defaultPlugin(name string) Provider {
	return Provider{Name: name, Enabled: true, Plugin: &Plugin{Timeouts: PluginTimeouts{
		Start: 5 * time.Second, Query: 10 * time.Second, Change: 5 * time.Minute, Window: 2 * time.Second,
	}}}
}

// absoluteCommand reads an argv whose program is given by its whole path.
func absoluteCommand() reader[[]string] {
	words := argv()
	return reader[[]string]{read: func(d *decoder, path string, n *yaml.Node, into *[]string) {
		words.read(d, path, n, into)
		if len(*into) > 0 && (*into)[0] != "" {
			if err := checkAbsolute((*into)[0]); err != nil {
				d.errorf(index(path, 0), "%v", err)
			}
		}
	}}
}

// program is an executable in a folder of plug-ins.
type program struct {
	name, path string
	err        error // why it is not to be run
}

// programs finds the executables in providers.d and where packages put theirs.
func (r *fileReader) programs(dirs ...string) []program {
	var found []program
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it does not exist, or is a problem of the folder's files
		}
		for _, e := range entries {
			name, path := e.Name(), filepath.Join(dir, e.Name())
			if strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
				continue
			}
			info, err := os.Stat(path) // through links: that is how a plug-in that is shipped is switched on
			switch {
			case errors.Is(err, fs.ErrNotExist):
				r.problem(path, SeverityError, "the link leads nowhere")
				continue
			case err != nil:
				r.problem(path, SeverityError, "cannot look at the file: %v", cause(err))
				continue
			case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
				continue
			case len(found) == maxFiles:
				r.problem(dir, SeverityError, "too many plug-ins: those from %s on are ignored", quote(name))
				return found
			}
			p := program{name: name, path: path}
			if r.root {
				p.err = ownership.File(path)
			}
			found = append(found, p)
		}
	}
	return found
}

// checkProvider finds the program of a plug-in whose file names none.
func checkProvider(programs []program) func(*decoder, *Provider) {
	return func(d *decoder, p *Provider) {
		if p.Plugin == nil || len(p.Plugin.Command) > 0 || d.broken("command") {
			return
		}
		for _, x := range programs {
			if x.name == p.Name && x.err == nil {
				p.Plugin.Command = []string{x.path}
				return
			}
		}
		d.errorf("", "command is missing, and there is no executable %s in providers.d that can be trusted", quote(p.Name))
	}
}

// plugins adds the executables that have no file of their own.
func (c *Config) plugins(programs []program) {
	for _, x := range programs {
		_, disabled := c.disabled["provider"][x.name]
		if p, known := c.Providers[x.name]; known && p.Plugin != nil || disabled {
			continue
		}
		err := x.err
		if err == nil {
			err = checkName(x.name)
		}
		if _, builtIn := providerKinds[x.name]; builtIn && err == nil {
			err = errors.New("a built-in provider has this name: rename the file")
		}
		if err != nil {
			problem := Problem{File: x.path, Severity: SeverityError, Message: fmt.Sprintf("the plug-in is not used: %v", err)}
			c.Problems = append(c.Problems, problem)
			if _, builtIn := providerKinds[x.name]; !builtIn {
				c.disabled["provider"][x.name] = problem
			}
			continue
		}
		p := defaultPlugin(x.name)
		p.Plugin.Command, p.File = []string{x.path}, x.path
		c.Providers[x.name] = p
	}
}
