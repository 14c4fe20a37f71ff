// Package child runs a program that Fermata did not write, a writer or a plug-in, and gets rid of it again, with all that
// it has started: in a process group of its own, and in a cgroup of its own where there can be one (cgroup.go), as the user
// that was configured, its last words kept for the error that they explain.
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// Grace is what a program gets to go by itself: from the end of its input, and from SIGTERM to SIGKILL.
	Grace = 2 * time.Second
	// ReapGrace is how long a killed program may take to go. One that waits in the kernel for a frozen filesystem goes only
	// after the thaw: nobody waits longer for it than this.
	ReapGrace = time.Second
	// DrainGrace is how long its output is read after it has gone: a child of its own may hold the pipe open for ever.
	DrainGrace = 100 * time.Millisecond
)

// Command says what to run, and how it ends.
type Command struct {
	Path       string
	Args       []string // Args[0] is its name
	Env        []string
	Credential *syscall.Credential // nil: as we are
	Stdin      *os.File            // nil: /dev/null
	Stdout     *os.File
	// Orphaned is the signal that it gets when we die.
	Orphaned syscall.Signal
	// Whole: whatever it has left behind is killed when it has gone, however that came. Otherwise only if it was ended.
	Whole bool
	// Stage is where it runs, Whole then; nil: on the host.
	Stage *Stage
}

// Process is a running program, the leader of a process group, and the first of a cgroup.
//
// Its goroutine stays locked to the thread that forked, because the kernel sends the parent death signal when that thread
// ends, not the whole process (prctl(2), PR_SET_PDEATHSIG).
type Process struct {
	Words  Words         // what it says on its standard error
	Exited chan struct{} // closed when it has gone and was reaped

	path   string
	home   *own          // nil: it has no cgroup
	empty  chan struct{} // closed when its cgroup is gone too, and its stage
	stage  *Stage        // nil: none
	stood  []string      // what is mounted on its stage
	struck error         // set before empty is closed: what could not be unmounted
	mu     sync.Mutex
	pid    int
	cgroup *cgroup          // nil: it has none, or none any more
	status *os.ProcessState // set before Exited is closed
	whole  bool             // what it started has to go with it
	ending bool             // Terminate or Kill was called
	reaped bool             // pid may belong to somebody else now
}

// Start runs a command, in /. The files remain the caller's to close.
func Start(c Command) (*Process, error) {
	stderr, childErr, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	defer childErr.Close()
	cmd := &exec.Cmd{
		Path: c.Path, Args: c.Args, Env: c.Env, Dir: "/", Stderr: childErr,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: c.Orphaned, Credential: c.Credential},
	}
	if c.Stdin != nil {
		cmd.Stdin = c.Stdin
	}
	if c.Stdout != nil {
		cmd.Stdout = c.Stdout
	}
	p := &Process{Words: Words{all: make(chan struct{})}, Exited: make(chan struct{}), empty: make(chan struct{}), path: c.Path, stage: c.Stage, whole: c.Whole || c.Stage != nil}
	if p.home, err = home(); err == nil {
		if p.cgroup, err = p.home.make(p.whole); err != nil {
			stderr.Close()
			return nil, fmt.Errorf("cannot run %s: %w", c.Path, err)
		}
		p.cgroup.into(cmd.SysProcAttr)
	}
	started := make(chan error)
	if p.stage == nil {
		go p.run(cmd, started)
	} else {
		go apart(func() { p.run(cmd, started) })
	}
	if err := <-started; err != nil {
		stderr.Close()
		return nil, fmt.Errorf("cannot run %s: %w", c.Path, err)
	}
	go p.Words.read(stderr)
	go func() {
		<-p.Exited
		_ = stderr.SetReadDeadline(time.Now().Add(DrainGrace))
	}()
	return p, nil
}

// run starts cmd and stays with it to its end. The group is killed before its leader is reaped: until then nobody else
// can have its number.
func (p *Process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread() // which apart has locked once more
	var err error
	if p.stage != nil {
		p.stood, err = p.stage.enter()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		p.leave()
		started <- errors.Join(err, p.struck)
		return
	}
	p.pid = cmd.Process.Pid
	started <- nil
	for errors.Is(unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	p.mu.Lock()
	if p.whole {
		p.kill()
	}
	_ = cmd.Wait() // the status says the same
	p.status, p.reaped = cmd.ProcessState, true
	p.mu.Unlock()
	close(p.Exited)
	if p.stage != nil {
		p.leave() // by this thread, which stands on the stage
		return
	}
	go p.leave() // which may take long, and needs no thread
}

// leave ends the cgroup, and takes the stage down.
func (p *Process) leave() {
	defer close(p.empty)
	p.mu.Lock()
	g, whole := p.cgroup, p.whole
	p.cgroup = nil
	p.mu.Unlock()
	if g != nil {
		p.home.clear(g, whole)
	}
	p.struck = unmount(p.stood)
}

// Status is how it ended, once it has gone; nil before.
func (p *Process) Status() *os.ProcessState {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Ending reports whether it was ended, by Terminate or Kill.
func (p *Process) Ending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ending
}

// Terminate ends all of it: SIGTERM for its process group now, SIGKILL for everything that it started when the program has
// gone, after Grace at the latest. It does not wait.
func (p *Process) Terminate() {
	if p.end() {
		p.alive(func() { _ = unix.Kill(-p.pid, unix.SIGTERM) }) // ESRCH: it is gone, as wanted
		time.AfterFunc(Grace, func() { p.alive(p.kill) })
	}
}

// Signal sends a signal to the program alone. One that has gone gets none.
func (p *Process) Signal(s syscall.Signal) (err error) {
	p.alive(func() { err = unix.Kill(p.pid, s) })
	return err
}

// Kill ends all of it at once. It does not wait.
func (p *Process) Kill() {
	p.end()
	p.alive(p.kill)
}

// kill kills everything that it started, with p.mu held.
func (p *Process) kill() {
	_ = unix.Kill(-p.pid, unix.SIGKILL) // ESRCH: nobody is left
	if p.cgroup != nil {
		_ = p.cgroup.kill() // clear tries again
	}
}

// end reports whether this is the first end.
func (p *Process) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.ending
	p.whole, p.ending = true, true
	return first
}

// alive acts while its number is ours.
func (p *Process) alive(act func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		act()
	}
}

// Gone waits until it has gone, at most limit.
func (p *Process) Gone(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.Exited:
		return true
	case <-t.C:
		return false
	}
}

// Buried waits, at most limit, for a program that was killed or will be within that time, and for what it has left behind.
func (p *Process) Buried(limit time.Duration) error {
	const waits = "still there after SIGKILL: it waits inside the kernel, most likely for a frozen filesystem or a dead disk"
	end := time.Now().Add(limit)
	if !p.Gone(limit) {
		return fmt.Errorf("%s (pid %d) is "+waits, p.path, p.pid)
	}
	t := time.NewTimer(max(time.Until(end), DrainGrace))
	defer t.Stop()
	select {
	case <-p.empty:
		return nil
	case <-t.C:
		return fmt.Errorf("what %s (pid %d) has started is "+waits, p.path, p.pid)
	}
}

// Struck waits until everything that it has started has gone, and its stage with it: what was written there is on its
// devices then, and nobody uses them.
func (p *Process) Struck(ctx context.Context) error {
	select {
	case <-p.empty:
		return p.struck
	case <-ctx.Done():
		return fmt.Errorf("what %s (pid %d) has started, or its mounts, are still there: %w", p.path, p.pid, context.Cause(ctx))
	}
}

// Settle waits a moment for its end and, if that comes, for its last words.
func (p *Process) Settle() {
	if p.Gone(DrainGrace) {
		<-p.Words.all
	}
}

// Explain adds to an error's text how the program ended, if it has and that was not our doing, and what it said.
func (p *Process) Explain(said string) string {
	var notes []string
	p.mu.Lock()
	if p.status != nil && (p.status.Exited() || !p.ending) { // a signal may have been ours
		notes = append(notes, p.status.String())
	}
	p.mu.Unlock()
	if said != "" {
		notes = append(notes, "it said: "+said)
	}
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, "; ") + ")"
}
