// Package child runs a program that Fermata did not write, a writer or a plug-in, and gets rid of it again: in a process
// group of its own, which ends with it and with Fermata, as the user that was configured, its last words kept for the
// error that they explain.
package child

import (
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
	// Whole: whatever is left of its group is killed when it has gone, however that came. Otherwise only if it was ended.
	Whole bool
}

// Process is a running program, the leader of a process group.
//
// Its goroutine stays locked to the thread that forked, because the kernel sends the parent death signal when that thread
// ends, not the whole process (prctl(2), PR_SET_PDEATHSIG).
type Process struct {
	Words  Words         // what it says on its standard error
	Exited chan struct{} // closed when it has gone and was reaped

	path   string
	mu     sync.Mutex
	pid    int
	status *os.ProcessState // set before Exited is closed
	whole  bool             // its group has to go with it
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
	p := &Process{Words: Words{all: make(chan struct{})}, Exited: make(chan struct{}), path: c.Path, whole: c.Whole}
	started := make(chan error)
	go p.run(cmd, started)
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
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if err == nil {
		p.pid = cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	for errors.Is(unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	p.mu.Lock()
	if p.whole {
		_ = unix.Kill(-p.pid, unix.SIGKILL) // ESRCH: nobody is left
	}
	_ = cmd.Wait() // the status says the same
	p.status, p.reaped = cmd.ProcessState, true
	p.mu.Unlock()
	close(p.Exited)
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

// Terminate ends the whole group: SIGTERM now, SIGKILL when the program has gone, after Grace at the latest. It does not
// wait.
func (p *Process) Terminate() {
	if p.end() {
		p.signal(unix.SIGTERM)
		time.AfterFunc(Grace, func() { p.signal(unix.SIGKILL) })
	}
}

// Kill ends the whole group at once. It does not wait.
func (p *Process) Kill() {
	p.end()
	p.signal(unix.SIGKILL)
}

// end reports whether this is the first end.
func (p *Process) end() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.ending
	p.whole, p.ending = true, true
	return first
}

// signal reaches the whole group while its number is ours.
func (p *Process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = unix.Kill(-p.pid, sig) // ESRCH: it is gone, as wanted
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

// Buried waits, at most limit, for a program that was killed or will be within that time.
func (p *Process) Buried(limit time.Duration) error {
	if p.Gone(limit) {
		return nil
	}
	return fmt.Errorf("%s (pid %d) is still there after SIGKILL: it waits inside the kernel, most likely for a frozen "+
		"filesystem or a dead disk", p.path, p.pid)
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
