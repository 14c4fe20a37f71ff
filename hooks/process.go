package hooks

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	// killGrace is the time from SIGTERM to SIGKILL, and from end of file on a
	// session's input to SIGTERM.
	killGrace = 2 * time.Second
	// reapGrace is how long a killed program may take to go. One that waits in
	// the kernel for a frozen filesystem goes only after the thaw: nobody waits
	// longer for it than this.
	reapGrace = time.Second
	// drainGrace is how long a pipe is read after its program has exited, for a
	// child of the program may hold the pipe open for ever.
	drainGrace = 100 * time.Millisecond
	// stderrKept is how much of a program's last words goes into errors.
	stderrKept = 4 << 10
)

// process is a running program: the leader of a process group of its own.
//
// Its goroutine stays locked to the thread that forked, because the kernel sends
// the parent death signal when that thread ends, not the whole process
// (prctl(2), PR_SET_PDEATHSIG).
type process struct {
	name   string
	stdin  *os.File // nil if the program reads /dev/null
	stdout *os.File
	stderr *tail
	exited chan struct{} // closed when the program has exited and was reaped

	mu        sync.Mutex
	pid       int
	status    *os.ProcessState // set before exited is closed
	condemned bool             // its whole group has to go with it
	ending    bool             // terminate was called
	reaped    bool             // pid may belong to somebody else now
}

// start runs a program. With input it gets a pipe as standard input, and all
// that is left of its group is killed when it exits: then the program is the
// session. Without, it reads /dev/null, and what it leaves behind in its group
// when it ends by itself is left alone.
func (p *program) start(env []string, input bool) (*process, error) {
	files, err := openPipes(input)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path:   p.path,
		Args:   p.argv,
		Env:    env,
		Dir:    "/",
		Stdout: files.childOut,
		Stderr: files.childErr,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:    true,
			Pdeathsig:  syscall.SIGTERM,
			Credential: p.credential,
		},
	}
	if input {
		cmd.Stdin = files.childIn
	}
	c := &process{
		name:      p.argv[0],
		stdin:     files.in,
		stdout:    files.out,
		stderr:    &tail{done: make(chan struct{})},
		exited:    make(chan struct{}),
		condemned: input,
	}
	started := make(chan error)
	go c.run(cmd, started)
	err = <-started
	files.closeChildEnds()
	if err != nil {
		files.closeOwnEnds()
		return nil, fmt.Errorf("cannot run %s: %w", p.path, err)
	}
	go c.stderr.read(files.err)
	go func() {
		<-c.exited
		_ = files.err.SetReadDeadline(time.Now().Add(drainGrace))
	}()
	return c, nil
}

// run starts cmd and stays with it to its end. The group is killed before its
// leader is reaped: until then nobody else can have its number.
func (c *process) run(cmd *exec.Cmd, started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Start()
	if err == nil {
		c.pid = cmd.Process.Pid
	}
	started <- err
	if err != nil {
		return
	}
	awaitExit(c.pid)
	c.mu.Lock()
	if c.condemned {
		_ = syscall.Kill(-c.pid, syscall.SIGKILL) // ESRCH: nobody is left
	}
	_ = cmd.Wait() // its status says the same
	c.status = cmd.ProcessState
	c.reaped = true
	c.mu.Unlock()
	close(c.exited)
}

// awaitExit returns when the child has exited, and leaves it unreaped
// (waitid(2), WNOWAIT).
func awaitExit(pid int) {
	const (
		idTypePid = 1 // P_PID of linux/wait.h
		infoSize  = 128
	)
	var info [infoSize]byte
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, idTypePid, uintptr(pid),
			uintptr(unsafe.Pointer(&info)), syscall.WEXITED|syscall.WNOWAIT, 0, 0)
		if errno != syscall.EINTR {
			return
		}
	}
}

// signal sends sig to the whole group while its number is ours.
func (c *process) signal(sig syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = syscall.Kill(-c.pid, sig) // ESRCH: it is gone, which is what was wanted
	}
}

// terminate ends the whole group: SIGTERM now, SIGKILL when the program has
// gone, after killGrace at the latest. It does not wait.
func (c *process) terminate() {
	c.mu.Lock()
	again := c.ending
	c.condemned, c.ending = true, true
	c.mu.Unlock()
	if again {
		return
	}
	c.signal(syscall.SIGTERM)
	time.AfterFunc(killGrace, func() { c.signal(syscall.SIGKILL) })
}

// gone waits until the program has exited, at most limit.
func (c *process) gone(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-c.exited:
		return true
	case <-t.C:
		return false
	}
}

// end closes the program's input, gives it killGrace to leave, and ends it.
func (c *process) end() error {
	if c.stdin != nil {
		_ = c.stdin.Close() // closed before: what was wanted
	}
	if !c.beingEnded() && !c.gone(killGrace) {
		c.terminate()
	}
	return c.awaitEnd()
}

// awaitEnd waits for a program that is being terminated, and frees its pipe.
func (c *process) awaitEnd() error {
	defer c.stdout.Close()
	if !c.gone(killGrace + reapGrace) {
		return fmt.Errorf("%s (pid %d) is still there after SIGKILL: it waits inside the kernel, "+
			"most likely for a frozen filesystem or a dead disk", c.name, c.pid)
	}
	return nil
}

// describe adds to err how the program ended, if it has, and its last words.
func (c *process) describe(err error) error {
	var notes []string
	if c.gone(drainGrace) {
		if c.status.Exited() || !c.beingEnded() { // a signal may have been ours
			notes = append(notes, c.status.String())
		}
		<-c.stderr.done
	}
	if said := c.stderr.String(); said != "" {
		notes = append(notes, fmt.Sprintf("it said: %s", said))
	}
	if len(notes) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(notes, "; "))
}

func (c *process) beingEnded() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// tail keeps the end of what it reads.
type tail struct {
	mu   sync.Mutex
	kept []byte
	done chan struct{} // closed when all was read
}

// read reads all of r, so that the writing program never blocks, and closes it.
func (t *tail) read(r *os.File) {
	defer close(t.done)
	defer r.Close()
	buf := make([]byte, stderrKept)
	for {
		n, err := r.Read(buf)
		t.mu.Lock()
		t.kept = append(t.kept, buf[:n]...)
		if over := len(t.kept) - stderrKept; over > 0 {
			t.kept = append(t.kept[:0], t.kept[over:]...)
		}
		t.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// String returns what was kept as one line.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(t.kept), "?")), " ")
}

// pipes are the ends of a program's standard streams. Ours can be given
// deadlines; a stream that does not exist is nil.
type pipes struct {
	in, out, err                *os.File
	childIn, childOut, childErr *os.File
}

func openPipes(input bool) (*pipes, error) {
	var p pipes
	var errs [3]error
	if input {
		p.childIn, p.in, errs[0] = os.Pipe()
	}
	p.out, p.childOut, errs[1] = os.Pipe()
	p.err, p.childErr, errs[2] = os.Pipe()
	if err := errors.Join(errs[:]...); err != nil {
		p.closeChildEnds()
		p.closeOwnEnds()
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	return &p, nil
}

func (p *pipes) closeChildEnds() { closeAll(p.childIn, p.childOut, p.childErr) }
func (p *pipes) closeOwnEnds()   { closeAll(p.in, p.out, p.err) }

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// readHead returns the first limit bytes of r and reads on to the end, so that
// the writing program never blocks.
func readHead(r io.Reader, limit int64) []byte {
	head, _ := io.ReadAll(io.LimitReader(r, limit)) // a deadline ends it, with what there is
	_, _ = io.Copy(io.Discard, r)
	return head
}
