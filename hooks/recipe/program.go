package recipe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/hooks/child"
)

// Program is one of an application's own programs, which a recipe runs on an image. Unlike what Run runs, it may take long,
// it may be a server, and it ends when the recipe does.
type Program struct {
	Path       string
	Args       []string            // what follows its name
	Credential *syscall.Credential // nil: as we are
	Orphaned   syscall.Signal      // what it gets when we die; 0: SIGKILL
}

// Running is a program that runs.
type Running struct {
	*child.Process
	name   string
	output chan string
}

// Start starts it. Root runs only what nobody else can change.
func (p Program) Start() (*Running, error) {
	if err := Trusted(p.Path); err != nil {
		return nil, err
	}
	if p.Orphaned == 0 {
		p.Orphaned = unix.SIGKILL
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	c, err := child.Start(child.Command{
		Path: p.Path, Args: append([]string{p.Path}, p.Args...), // by it a server finds its other programs
		Env: append(os.Environ(), "LC_ALL=C"), Credential: p.Credential, Stdout: w, Orphaned: p.Orphaned, Whole: true,
	})
	if err != nil {
		r.Close()
		return nil, err
	}
	x := &Running{c, filepath.Base(p.Path), make(chan string, 1)}
	go func() {
		defer r.Close()
		head, _ := io.ReadAll(io.LimitReader(r, maxOutput))
		_, _ = io.Copy(io.Discard, r)
		x.output <- string(head)
	}()
	return x, nil
}

// Run runs it to its end and returns what it said on its standard output.
func (p Program) Run(ctx context.Context) (string, error) {
	x, err := p.Start()
	if err != nil {
		return "", err
	}
	return x.Wait(ctx)
}

// Wait waits for its end, and ends it if ctx is done first.
func (x *Running) Wait(ctx context.Context) (string, error) {
	var err error
	select {
	case <-x.Exited:
	case <-ctx.Done():
		x.Terminate()
		err = errors.Join(context.Cause(ctx), x.Buried(child.Grace+child.ReapGrace))
	}
	x.Settle()
	var out string
	if err == nil {
		out = <-x.output
	}
	if s := x.Status(); err == nil && s != nil && !s.Success() {
		err = errors.New("it failed")
	}
	if err != nil {
		return out, fmt.Errorf("%s: %w%s", x.name, err, x.Explain(LastLines(out, x.Words.String())))
	}
	return out, nil
}

// Stop asks a server to end by a signal, and waits until it has; after limit it is killed. One that had ended before is no
// error: who waited for it has said so.
func (x *Running) Stop(signal syscall.Signal, limit time.Duration) error {
	select {
	case <-x.Exited:
		return nil
	default:
	}
	if err := x.Signal(signal); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := x.Wait(ctx)
	return err
}

// LastLines is what explains a failure, of each of some outputs, in one line.
func LastLines(texts ...string) string {
	var said []string
	for _, text := range texts {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		for _, line := range lines[max(0, len(lines)-8):] {
			if line != "" {
				said = append(said, line)
			}
		}
	}
	return strings.Join(said, " | ")
}

// programFolders are where packages have an application's programs.
var programFolders = []string{"/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin"}

// FindProgram returns the path of the first of these programs that is there: in the folder that was named, or else where
// packages have them.
func FindProgram(folder string, names ...string) (string, error) {
	folders := programFolders
	if folder != "" {
		folders = []string{folder}
	}
	for _, name := range names {
		for _, f := range folders {
			path := filepath.Join(f, name)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("there is no %s in %s: install it, or name its folder with --bin-directory: %w",
		strings.Join(names, " or "), strings.Join(folders, ", "), fs.ErrNotExist)
}

// OwnerOf is whom a program runs as that looks into a file, with that user's groups: a recipe that is root does not let it be
// root because of what somebody else has written. It is nil, as we are, for everybody else.
func OwnerOf(path string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	st := info.Sys().(*syscall.Stat_t)
	who, err := child.Identify(strconv.FormatUint(uint64(st.Uid), 10), "")
	if unknown := user.UnknownUserIdError(0); errors.As(err, &unknown) { // of a container, perhaps
		return &syscall.Credential{Uid: st.Uid, Gid: st.Gid}, nil
	}
	return who.Credential, err
}
