package hooks

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Level decides the order of freezing: front ends first, so that they stop
// asking the back ends, which stop asking the system. Thaw goes the other way.
type Level string

const (
	LevelFrontEnd Level = "front-end" // web and application servers
	LevelBackEnd  Level = "back-end"  // databases and queues; the default
	LevelSystem   Level = "system"    // what the others stand on: journal, units
)

// levels in freeze order.
var levels = []Level{LevelFrontEnd, LevelBackEnd, LevelSystem}

// OnFailure is what the failure of a writer does to the set.
type OnFailure string

const (
	OnFailureAbort   OnFailure = "abort"   // the set does not come about; the default
	OnFailureDegrade OnFailure = "degrade" // the set claims less consistency
)

// Type is the kind of a writer.
type Type string

const (
	TypeExec    Type = "exec"          // a program, in session form or command form; the default
	TypeNull    Type = "null"          // answers ok to everything and does nothing
	TypeTest    Type = "test"          // fermata-writer test, with Session as its arguments
	TypeDBus    Type = "dbus"          // a service that registers on the bus: see NewRemote
	TypeUnit    Type = "systemd-unit"  // fermata-writer systemd-unit, which freezes Unit
	TypeHookDir Type = "qemu-hook-dir" // fermata-writer qemu-hook-dir, which runs the scripts in Directory
)

// Timeouts are the time limits of one writer's phases, each from 1 ms to 1 h.
// Zero means the default.
type Timeouts struct {
	Prepare time.Duration // default 5m
	Freeze  time.Duration // default 10s
	Thaw    time.Duration // default 10s
	Abort   time.Duration // default 10s
	Post    time.Duration // default 5m

	Recover time.Duration // default 10m, at most 24h
	Verify  time.Duration // default 1h, at most 24h
	Report  time.Duration // default 5m
}

// DefaultTimeouts are used where a Spec says nothing.
var DefaultTimeouts = Timeouts{
	Prepare: 5 * time.Minute,
	Freeze:  10 * time.Second,
	Thaw:    10 * time.Second,
	Abort:   10 * time.Second,
	Post:    5 * time.Minute,
	Recover: 10 * time.Minute,
	Verify:  time.Hour,
	Report:  5 * time.Minute,
}

const (
	minTimeout = time.Millisecond
	maxTimeout = time.Hour
	// maxAside is for recover and verify, during which nobody waits.
	maxAside = 24 * time.Hour
)

// Of returns the limit of a phase.
func (t Timeouts) Of(p Phase) time.Duration {
	switch p {
	case PhasePrepare:
		return t.Prepare
	case PhaseFreeze:
		return t.Freeze
	case PhaseThaw:
		return t.Thaw
	case PhaseAbort:
		return t.Abort
	case PhasePost:
		return t.Post
	case PhaseRecover:
		return t.Recover
	case PhaseVerify:
		return t.Verify
	case PhaseReport:
		return t.Report
	}
	panic(fmt.Sprintf("internal error: unknown phase %q", p))
}

// Component is a group of files of a writer that belong together.
type Component struct {
	Name          string
	Paths         []string
	Excludes      []string
	LogFiles      []string // of Paths, those that report may let the writer truncate
	RestoreMethod string
}

// Spec declares a writer.
type Spec struct {
	Name       string // [A-Za-z0-9_-], 1 to 64 bytes
	Level      Level
	Required   bool
	OnFailure  OnFailure
	Timeouts   Timeouts
	Components []Component
	Type       Type

	// Session is the program and the arguments of the session form. Exactly
	// one of Session and Commands is given for TypeExec.
	Session []string
	// Commands has the program and the arguments for each phase of the command
	// form. Freeze and thaw are needed, the others may be missing.
	Commands map[Phase][]string
	// Recover, Verify and Report say which of Asides the session form takes; in the command form the commands do.
	Recover, Verify, Report bool

	Unit string // of TypeUnit: the unit's name, with its suffix
	// Directory is that of TypeHookDir, an absolute path; empty: that of the QEMU guest agent.
	Directory string

	User  string            // name or number; empty: the daemon's own
	Group string            // name or number; empty: the user's primary group
	Env   map[string]string // added to the clean environment of the programs
}

// fatal says whether the writer's failure is the set's failure.
func (s Spec) fatal() bool { return s.Required && s.OnFailure != OnFailureDegrade }

// withDefaults fills in what was left empty.
func (s Spec) withDefaults() Spec {
	if s.Type == "" {
		s.Type = TypeExec
	}
	if s.Level == "" {
		s.Level = LevelBackEnd
	}
	if s.OnFailure == "" {
		s.OnFailure = OnFailureAbort
	}
	for limit, preset := range map[*time.Duration]time.Duration{
		&s.Timeouts.Prepare: DefaultTimeouts.Prepare,
		&s.Timeouts.Freeze:  DefaultTimeouts.Freeze,
		&s.Timeouts.Thaw:    DefaultTimeouts.Thaw,
		&s.Timeouts.Abort:   DefaultTimeouts.Abort,
		&s.Timeouts.Post:    DefaultTimeouts.Post,
		&s.Timeouts.Recover: DefaultTimeouts.Recover,
		&s.Timeouts.Verify:  DefaultTimeouts.Verify,
		&s.Timeouts.Report:  DefaultTimeouts.Report,
	} {
		if *limit == 0 {
			*limit = preset
		}
	}
	return s
}

var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	envForm  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// validate checks a Spec whose defaults are filled in.
func (s Spec) validate() error {
	if !nameForm.MatchString(s.Name) {
		return fmt.Errorf("bad name %q: letters, digits, _ and - are allowed, at most 64", s.Name)
	}
	if rank(s.Level) < 0 {
		return fmt.Errorf("unknown level %q: use %s, %s or %s", s.Level, LevelFrontEnd, LevelBackEnd, LevelSystem)
	}
	if s.OnFailure != OnFailureAbort && s.OnFailure != OnFailureDegrade {
		return fmt.Errorf("unknown on_failure %q: use %s or %s", s.OnFailure, OnFailureAbort, OnFailureDegrade)
	}
	for _, p := range slices.Concat(Phases, Asides) {
		most := maxTimeout
		if p == PhaseRecover || p == PhaseVerify {
			most = maxAside
		}
		if t := s.Timeouts.Of(p); t < minTimeout || t > most {
			return fmt.Errorf("time limit of %s is %s: it must be between %s and %s", p, t, minTimeout, most)
		}
	}
	for name, value := range s.Env {
		if !envForm.MatchString(name) || strings.HasPrefix(name, "FERMATA_") || strings.ContainsRune(value, 0) {
			return fmt.Errorf("bad environment variable %q", name)
		}
	}
	return s.validateForm()
}

// validateForm checks what depends on the type.
func (s Spec) validateForm() error {
	switch s.Type {
	case TypeNull, TypeDBus, TypeUnit, TypeHookDir:
		if len(s.Session) > 0 || len(s.Commands) > 0 {
			return fmt.Errorf("a writer of type %s runs no program", s.Type)
		}
		if s.Type != TypeNull && (s.Recover || s.Verify || s.Report && s.Type != TypeDBus) {
			return fmt.Errorf("a writer of type %s does not take that phase beside a set", s.Type)
		}
		if s.Type == TypeUnit && s.Unit == "" {
			return fmt.Errorf("a writer of type %s needs a unit", s.Type)
		}
	case TypeTest:
		if len(s.Commands) > 0 {
			return fmt.Errorf("a writer of type %s has no commands", s.Type)
		}
	case TypeExec:
		if (len(s.Session) > 0) == (len(s.Commands) > 0) {
			return fmt.Errorf("exactly one of session and commands is needed")
		}
		if len(s.Commands) > 0 && (s.Recover || s.Verify || s.Report) {
			return fmt.Errorf("in the command form recover, verify and report are commands")
		}
		if len(s.Commands) > 0 && (len(s.Commands[PhaseFreeze]) == 0 || len(s.Commands[PhaseThaw]) == 0) {
			return fmt.Errorf("the command form needs a command for freeze and one for thaw")
		}
		for p, argv := range s.Commands {
			if !p.known() {
				return fmt.Errorf("unknown phase %q", p)
			}
			if len(argv) == 0 {
				return fmt.Errorf("the command of %s is empty", p)
			}
		}
	default:
		return fmt.Errorf("unknown type %q: use %s, %s, %s, %s, %s or %s", s.Type, TypeExec, TypeDBus, TypeUnit, TypeHookDir, TypeNull, TypeTest)
	}
	return nil
}

func (p Phase) known() bool { return slices.Contains(Phases, p) || slices.Contains(Asides, p) }

// rank is a level's place in the freeze order, or -1.
func rank(l Level) int {
	for i, known := range levels {
		if l == known {
			return i
		}
	}
	return -1
}

// New makes the writer that spec declares. Programs are looked up and checked
// now (see ownership.File), and run later. It fails for a declaration that is
// not valid, for a program that is missing or not to be trusted, and for an
// unknown user or group.
func New(spec Spec) (Writer, error) {
	w, err := newWriter(spec.withDefaults())
	if err != nil {
		return nil, fmt.Errorf("cannot use writer %q: %w", spec.Name, err)
	}
	return w, nil
}

func newWriter(spec Spec) (Writer, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	switch {
	case spec.Type == TypeNull:
		return &null{spec: spec}, nil
	case spec.Type == TypeTest:
		return newSession(spec, append([]string{"fermata-writer", "test"}, spec.Session...))
	case spec.Type == TypeUnit:
		return newSession(spec, []string{"fermata-writer", "systemd-unit", spec.Unit})
	case spec.Type == TypeHookDir && spec.Directory == "":
		return newSession(spec, []string{"fermata-writer", "qemu-hook-dir"})
	case spec.Type == TypeHookDir:
		return newSession(spec, []string{"fermata-writer", "qemu-hook-dir", spec.Directory})
	case spec.Type == TypeDBus:
		return nil, fmt.Errorf("internal error: a writer of type %s is made by NewRemote", spec.Type)
	case len(spec.Session) > 0:
		return newSession(spec, spec.Session)
	default:
		return newCommands(spec)
	}
}
