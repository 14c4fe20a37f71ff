package hooks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
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
		if err := CheckOwnership(path); err != nil {
			return nil, err
		}
	}
	who, err := identify(spec.User, spec.Group)
	if err != nil {
		return nil, err
	}
	return &program{path: path, argv: argv, env: environment(spec, who), credential: who.credential}, nil
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

// identity is who a program runs as.
type identity struct {
	credential *syscall.Credential // nil: as we are
	user       *user.User          // nil: as we are
}

// identify resolves a user and a group by name or number. Without a group it is
// the user's primary one; the supplementary groups are always the user's.
func identify(userName, groupName string) (identity, error) {
	if userName == "" && groupName == "" {
		return identity{}, nil
	}
	var who identity
	cred := syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid())}
	if userName != "" {
		u, err := findUser(userName)
		if err != nil {
			return identity{}, err
		}
		who.user = u
		if cred.Uid, err = parseUint32(u.Uid); err != nil {
			return identity{}, fmt.Errorf("user %s: %w", userName, err)
		}
		if cred.Gid, err = parseUint32(u.Gid); err != nil {
			return identity{}, fmt.Errorf("user %s: %w", userName, err)
		}
		if cred.Groups, err = supplementary(u); err != nil {
			return identity{}, err
		}
	}
	if groupName != "" {
		gid, err := findGroup(groupName)
		if err != nil {
			return identity{}, err
		}
		cred.Gid = gid
	}
	if os.Geteuid() == 0 {
		who.credential = &cred
	} else if cred.Uid != uint32(os.Geteuid()) || cred.Gid != uint32(os.Getegid()) {
		return identity{}, fmt.Errorf("cannot run as user %q group %q: only root can: %w", userName, groupName, syscall.EPERM)
	}
	return who, nil
}

func findUser(name string) (*user.User, error) {
	if _, err := strconv.ParseUint(name, 10, 32); err == nil {
		return user.LookupId(name)
	}
	return user.Lookup(name)
}

func findGroup(name string) (uint32, error) {
	if gid, err := parseUint32(name); err == nil {
		return gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return parseUint32(g.Gid)
}

func supplementary(u *user.User) ([]uint32, error) {
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("cannot find the groups of user %s: %w", u.Username, err)
	}
	gids := make([]uint32, len(ids))
	for i, id := range ids {
		if gids[i], err = parseUint32(id); err != nil {
			return nil, fmt.Errorf("group of user %s: %w", u.Username, err)
		}
	}
	return gids, nil
}

// environment is the clean environment of a writer's programs; what the Spec
// adds comes last and wins.
func environment(spec Spec, who identity) []string {
	env := []string{"PATH=" + strings.Join(searchPath, ":"), "LANG=C"}
	if who.user != nil {
		env = append(env, "HOME="+who.user.HomeDir, "USER="+who.user.Username, "LOGNAME="+who.user.Username)
	}
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
	return env
}
