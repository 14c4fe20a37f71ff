package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/hooks/child"
)

// searchPath is where a program named without a slash is looked up, and the
// PATH that programs get. The daemon's own PATH plays no part.
var searchPath = []string{
	"/usr/local/libexec/fermata",
	"/usr/libexec/fermata",
	"/usr/local/sbin",
	"/usr/local/bin",
	"/usr/sbin",
	"/usr/bin",
	"/sbin",
	"/bin",
}

// program is what is needed to run a command of a Spec: resolved and checked
// when the writer is made, so that nothing is looked up later.
type program struct {
	path       string
	argv       []string
	env        []string            // without the FERMATA_ variables
	credential *syscall.Credential // nil: as we are
}

// newProgram resolves and checks a command line of spec.
func newProgram(spec Spec, argv []string) (*program, error) {
	path, err := lookup(argv[0], searchPath)
	if err != nil {
		return nil, err
	}
	for _, arg := range argv {
		if strings.ContainsRune(arg, 0) {
			return nil, fmt.Errorf("argument %q has a zero byte", arg)
		}
	}
	if os.Geteuid() == 0 {
		if err := ownership.File(path); err != nil {
			return nil, err
		}
	}
	who, err := child.Identify(spec.User, spec.Group)
	if err != nil {
		return nil, err
	}
	return &program{path: path, argv: argv, env: environment(spec, who), credential: who.Credential}, nil
}

// lookup finds the program that name means in the folders of search.
func lookup(name string, search []string) (string, error) {
	if filepath.IsAbs(name) {
		return name, executable(name)
	}
	if strings.Contains(name, "/") || name == "" {
		return "", fmt.Errorf("program %q: give an absolute path, or a bare name", name)
	}
	for _, dir := range search {
		path := filepath.Join(dir, name)
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("no program %s in %s: %w", name, strings.Join(search, ":"), fs.ErrNotExist)
}

// executable is nil if path is a regular file that somebody may execute.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not an executable file: %w", path, fs.ErrPermission)
	}
	return nil
}

// credentials is where systemd puts the passwords and the like that the daemon's unit loads (systemd.exec(5), LoadCredential=). Only
// root can read there.
const credentials = "CREDENTIALS_DIRECTORY"

// environment is the clean environment of a writer's programs; what the Spec
// adds comes last and wins.
func environment(spec Spec, who child.Identity) []string {
	env := []string{"PATH=" + strings.Join(searchPath, ":"), "LANG=C"}
	if dir := os.Getenv(credentials); dir != "" {
		env = append(env, credentials+"="+dir)
	}
	env = append(env, who.Env()...)
	names := make([]string, 0, len(spec.Env))
	for name := range spec.Env {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		env = append(env, name+"="+spec.Env[name])
	}
	return env
}

// withEvent adds what is known of the set to a program's environment.
func (p *program) withEvent(phase Phase, ev Event) []string {
	env := append([]string(nil), p.env...)
	add := func(name, value string) {
		if value != "" {
			env = append(env, name+"="+strings.ReplaceAll(value, "\x00", ""))
		}
	}
	add("FERMATA_SET", ev.Set)
	add("FERMATA_POLICY", ev.Policy)
	add("FERMATA_PHASE", string(phase))
	add("FERMATA_OUTCOME", string(ev.Outcome))
	add("FERMATA_DRY_RUN", strconv.FormatBool(ev.DryRun))
	add("FERMATA_PREPARED", preparedJSON(ev.Prepared))
	return env
}
