package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// WriterType is how a writer is spoken to.
type WriterType string

const (
	// WriterExec runs programs: one for the session, or one for each phase.
	WriterExec WriterType = "exec"
	// WriterDBus is a service that registers on the bus.
	WriterDBus WriterType = "dbus"
	// WriterUnit freezes a unit of systemd.
	WriterUnit WriterType = "systemd-unit"
	// WriterHookDir runs scripts that were written for the QEMU guest agent.
	WriterHookDir WriterType = "qemu-hook-dir"
	// WriterNull does nothing and holds always: for tests, and to try a policy out.
	WriterNull WriterType = "null"
)

// Level orders the writers of a set: front ends are frozen first and thawed last.
type Level string

const (
	LevelFrontEnd Level = "front-end" // uses other writers: an application server
	LevelBackEnd  Level = "back-end"  // is used by others: a database
	LevelSystem   Level = "system"    // is used by all: journald
)

// Writer declares an application that takes part in sets: the settings of one file in writers.d.
type Writer struct {
	Name        string            // 1 to 64 of A-Za-z0-9_-; default the file's base name
	Type        WriterType        // default exec
	Session     []string          // argv of the session form; exactly one of Session and Commands is set for exec
	Commands    Commands          // argv of each phase of the command form
	Unit        string            // of WriterUnit: a service, scope or slice
	Directory   string            // of WriterHookDir: absolute and clean; "" for /etc/qemu/fsfreeze-hook.d
	User        string            // name or number; "" for the daemon's; of WriterDBus: who else may register it
	Group       string            // name or number; "" for the user's
	Environment map[string]string // beside what Fermata sets itself; at most 256
	Level       Level             // default back-end
	Required    bool              // whether a set can do without it; default true
	OnFailure   OnFailure         // default abort, degrade if not required
	Timeouts    Timeouts
	Recover     bool        // whether the session form takes phase recover; the command form says so by a command
	Verify      bool        // likewise
	Report      bool        // likewise
	Components  []Component // at most 256
	File        string      // where it was read from
}

// Commands are the programs of the command form with their arguments, run without a shell: an
// absolute path, or a bare name to be found in the daemon's fixed search path. Freeze and Thaw are
// set both or neither; nil for a phase that needs nothing.
type Commands struct {
	Prepare, Freeze, Thaw, Abort, Post []string
	Recover, Verify, Report            []string
}

// Timeouts are the longest times that a writer's phases may take, 1ms to 1h each, of recover and verify to 24h.
type Timeouts struct {
	Prepare time.Duration // default 5m
	Freeze  time.Duration // default 10s
	Thaw    time.Duration // default 10s
	Abort   time.Duration // default 10s
	Post    time.Duration // default 5m
	Recover time.Duration // default 10m
	Verify  time.Duration // default 1h
	Report  time.Duration // default 5m
}

// Component is a group of files of a writer that belong together.
type Component struct {
	Name          string   // 1 to 64 of A-Za-z0-9_-, distinct within its writer
	Paths         []string // absolute and clean, 1 to 256, distinct
	Excludes      []string // patterns of what need not be backed up, at most 256
	LogFiles      []string // absolute and clean, at most 256, distinct
	RestoreMethod string   // what a restore has to do, in words, at most 1024 bytes
}

// defaultWriter is a writer file's content before it is read.
func defaultWriter(name string) Writer {
	return Writer{
		Name: name, Type: WriterExec, Level: LevelBackEnd, Required: true, OnFailure: OnFailureAbort,
		Timeouts: Timeouts{
			Prepare: 5 * time.Minute, Freeze: 10 * time.Second, Thaw: 10 * time.Second,
			Abort: 10 * time.Second, Post: 5 * time.Minute,
			Recover: 10 * time.Minute, Verify: time.Hour, Report: 5 * time.Minute,
		},
	}
}

var writerSchema = mapping(
	key("name", func(w *Writer) *string { return &w.Name }, nameText()),
	key("type", func(w *Writer) *WriterType { return &w.Type }, choice(WriterExec, WriterDBus, WriterUnit, WriterHookDir, WriterNull)),
	key("session", func(w *Writer) *[]string { return &w.Session }, argv()),
	key("commands", func(w *Writer) *Commands { return &w.Commands }, mapping(commandFields...)),
	key("unit", func(w *Writer) *string { return &w.Unit }, text("a unit", 255, checkUnit)),
	key("directory", func(w *Writer) *string { return &w.Directory }, pathText()),
	key("user", func(w *Writer) *string { return &w.User }, text("a user", 64, checkAccount)),
	key("group", func(w *Writer) *string { return &w.Group }, text("a group", 64, checkAccount)),
	key("environment", func(w *Writer) *map[string]string { return &w.Environment },
		dictionary(checkVariable, text("a text", 32<<10), 256)),
	key("level", func(w *Writer) *Level { return &w.Level }, choice(LevelFrontEnd, LevelBackEnd, LevelSystem)),
	key("required", func(w *Writer) *bool { return &w.Required }, boolean()),
	key("on_failure", func(w *Writer) *OnFailure { return &w.OnFailure }, choice(OnFailureAbort, OnFailureDegrade)),
	key("timeouts", func(w *Writer) *Timeouts { return &w.Timeouts }, timeouts()),
	key("recover", func(w *Writer) *bool { return &w.Recover }, boolean()),
	key("verify", func(w *Writer) *bool { return &w.Verify }, boolean()),
	key("report", func(w *Writer) *bool { return &w.Report }, boolean()),
	key("components", func(w *Writer) *[]Component { return &w.Components }, list(mapping(
		required(key("name", func(c *Component) *string { return &c.Name }, nameText())),
		required(key("paths", func(c *Component) *[]string { return &c.Paths }, distinct(list(pathText(), 1, 256)))),
		key("excludes", func(c *Component) *[]string { return &c.Excludes }, distinct(list(text("a pattern", maxPath, notEmpty), 0, 256))),
		key("log_files", func(c *Component) *[]string { return &c.LogFiles }, distinct(list(pathText(), 0, 256))),
		key("restore_method", func(c *Component) *string { return &c.RestoreMethod }, text("a text", 1024)),
	), 0, 256)),
)

var commandFields = []field[Commands]{
	key("prepare", func(c *Commands) *[]string { return &c.Prepare }, argv()),
	key("freeze", func(c *Commands) *[]string { return &c.Freeze }, argv()),
	key("thaw", func(c *Commands) *[]string { return &c.Thaw }, argv()),
	key("abort", func(c *Commands) *[]string { return &c.Abort }, argv()),
	key("post", func(c *Commands) *[]string { return &c.Post }, argv()),
	key("recover", func(c *Commands) *[]string { return &c.Recover }, argv()),
	key("verify", func(c *Commands) *[]string { return &c.Verify }, argv()),
	key("report", func(c *Commands) *[]string { return &c.Report }, argv()),
}

func timeouts() reader[Timeouts] {
	value, long := duration(time.Millisecond, time.Hour), duration(time.Millisecond, 24*time.Hour)
	return mapping(
		key("prepare", func(t *Timeouts) *time.Duration { return &t.Prepare }, value),
		key("freeze", func(t *Timeouts) *time.Duration { return &t.Freeze }, value),
		key("thaw", func(t *Timeouts) *time.Duration { return &t.Thaw }, value),
		key("abort", func(t *Timeouts) *time.Duration { return &t.Abort }, value),
		key("post", func(t *Timeouts) *time.Duration { return &t.Post }, value),
		key("recover", func(t *Timeouts) *time.Duration { return &t.Recover }, long),
		key("verify", func(t *Timeouts) *time.Duration { return &t.Verify }, long),
		key("report", func(t *Timeouts) *time.Duration { return &t.Report }, value),
	)
}

// argv reads a program and its arguments, at most 256.
func argv() reader[[]string] {
	const most = 32 << 10 // bytes
	items := listOf(text("a program", most, checkProgram), text("a text", most), 1, 256)
	return reader[[]string]{read: func(d *decoder, path string, n *yaml.Node, into *[]string) {
		if words := strings.Fields(n.Value); n.Kind == yaml.ScalarNode && len(words) > 1 {
			for i := range words {
				words[i] = quote(words[i])
			}
			d.errorf(path, "a list is expected, for no shell will take %s apart: write [%s]",
				quote(n.Value), shorten(strings.Join(words, ", ")))
			return
		}
		items.read(d, path, n, into)
	}}
}

func checkProgram(s string) error {
	switch {
	case s == "":
		return errors.New("the program's name is empty")
	case strings.Contains(s, "/") && !strings.HasPrefix(s, "/"):
		return fmt.Errorf("%s is relative: write an absolute path or a bare name", quote(s))
	}
	return nil
}

var accountPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.@-]*[$]?$`)

func checkAccount(s string) error {
	if !accountPattern.MatchString(s) {
		return fmt.Errorf("%s is no name or number of an account", quote(s))
	}
	return nil
}

var variablePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,255}$`)

func checkVariable(s string) error {
	switch {
	case !variablePattern.MatchString(s):
		return fmt.Errorf("%s is no name of a variable", quote(s))
	case strings.HasPrefix(s, "FERMATA_"):
		return fmt.Errorf("%s is set by Fermata itself: choose a name that does not begin with FERMATA_", quote(s))
	}
	return nil
}

// checkWriter looks at the keys that depend on each other.
func checkWriter(d *decoder, w *Writer) {
	for i, c := range w.Components {
		first := slices.IndexFunc(w.Components, func(other Component) bool { return other.Name == c.Name })
		if c.Name != "" && first < i {
			d.errorf(index("components", i)+".name", "duplicate of %s: %q", index("components", first), c.Name)
		}
	}
	if !d.has("on_failure") && !w.Required {
		w.OnFailure = OnFailureDegrade
	}
	if w.OnFailure == OnFailureAbort && !w.Required {
		d.errorf("on_failure", "a writer that is not required cannot abort a set: write on_failure: degrade or required: true")
	}
	for _, phase := range []string{"recover", "verify", "report"} {
		if d.has(phase) && d.has("commands") {
			d.errorf(phase, "with commands it is one of them: write commands.%s", phase)
		}
	}
	if !d.broken("type") {
		checkForm(d, w.Type)
	}
}

var unitPattern = regexp.MustCompile(`^[A-Za-z0-9:_.\\@-]+\.(service|scope|slice)$`)

func checkUnit(s string) error {
	if !unitPattern.MatchString(s) {
		return fmt.Errorf("%s is no unit that can be frozen: write the whole name of a service, scope or slice, such as app.service", quote(s))
	}
	return nil
}

// ofType are the keys that have a meaning for some types only.
var ofType = map[string][]WriterType{
	"recover": {WriterExec, WriterNull}, "verify": {WriterExec, WriterNull}, "report": {WriterExec, WriterNull, WriterDBus},
	"session": {WriterExec}, "commands": {WriterExec}, "environment": {WriterExec}, "group": {WriterExec},
	"user": {WriterExec, WriterDBus}, "unit": {WriterUnit}, "directory": {WriterHookDir},
}

// checkForm looks at which keys the type takes, and at which of the two forms of an exec writer is there.
func checkForm(d *decoder, t WriterType) {
	for _, name := range slices.Sorted(maps.Keys(ofType)) {
		if d.has(name) && !slices.Contains(ofType[name], t) {
			d.errorf(name, "a writer of type %s does not take this key: remove it or write type: %s", t, ofType[name][0])
		}
	}
	session, commands := d.has("session"), d.has("commands")
	switch {
	case t == WriterUnit && !d.has("unit"):
		d.errorf("", "a writer of type %s needs a unit", t)
	case t != WriterExec:
	case session && commands:
		d.errorf("commands", "both session and commands are there: keep one")
	case !session && !commands:
		d.errorf("", "an exec writer needs either session or commands")
	case commands && !slices.ContainsFunc(commandFields, func(f field[Commands]) bool { return d.has(join("commands", f.name)) }):
		d.errorf("commands", "no phase has a command: write at least freeze and thaw")
	case d.has("commands.freeze") && !d.has("commands.thaw"):
		d.errorf("commands.freeze", "freeze needs thaw beside it, to let go again")
	case d.has("commands.thaw") && !d.has("commands.freeze"):
		d.errorf("commands.thaw", "thaw needs freeze beside it")
	}
}
