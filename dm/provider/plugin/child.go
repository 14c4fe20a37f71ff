package plugin

import (
	"bytes"
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

	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

const (
	// killGrace is the time from the end of its input to SIGKILL.
	killGrace = 2 * time.Second
	// reapGrace is how long a killed process may take to go; one that waits in the kernel goes when that lets it.
	reapGrace = time.Second
	// drainGrace is how long its standard error is read after it has gone: a child of its own may hold it open.
	drainGrace = 100 * time.Millisecond
	// maxWords bounds what is kept of its standard error, in bytes, between two looks at it.
	maxWords = 8 << 10
)

// child is a plug-in's process, the leader of a process group. Its pipes are plain descriptors, so that the freeze window
// can use them with two system calls and nothing else.
//
// Its goroutine stays on the thread that forked: the parent death signal comes when that thread ends (prctl(2),
// PR_SET_PDEATHSIG).
type child struct {
	in, out int // its standard input and output
	words   words
	exited  chan struct{} // closed when it is reaped

	mu     sync.Mutex
	pid    int
	status *os.ProcessState
	reaped bool
	killed bool // by us, so that its status tells nothing
}

// start runs the program of a spec.
func start(spec Spec) (*child, error) {
	attr := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "FERMATA_PLUGIN=" + spec.Name}
	env, err := identity(spec.User, attr, append(env, spec.env...))
	if err != nil {
		return nil, err
	}
	var in, out [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		unix.Close(in[0])
		unix.Close(in[1])
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	stderr, childErr, err := os.Pipe()
	if err != nil {
		for _, fd := range append(in[:], out[:]...) {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("cannot make a pipe: %w", err)
	}
	c := &child{in: in[1], out: out[0], exited: make(chan struct{})}
	childIn, childOut := os.NewFile(uintptr(in[0]), "stdin"), os.NewFile(uintptr(out[1]), "stdout")
	cmd := &exec.Cmd{
		Path: spec.Command[0], Args: spec.Command, Env: env, Dir: "/",
		Stdin: childIn, Stdout: childOut, Stderr: childErr, SysProcAttr: attr,
	}
	started := make(chan error)
	go c.run(cmd, started)
	err = errors.Join(<-started, unix.SetNonblock(c.in, true), unix.SetNonblock(c.out, true))
	childIn.Close()
	childOut.Close()
	childErr.Close()
	if err != nil {
		stderr.Close()
		c.close()
		return nil, fmt.Errorf("cannot run %s: %w", spec.Command[0], err)
	}
	go c.words.read(stderr)
	go func() {
		<-c.exited
		_ = stderr.SetReadDeadline(time.Now().Add(drainGrace))
	}()
	return c, nil
}

// run starts cmd and stays with it to its end. The group is killed before its leader is reaped: until then nobody else
// can have its number.
func (c *child) run(cmd *exec.Cmd, started chan<- error) {
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
	for errors.Is(unix.Waitid(unix.P_PID, c.pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	c.mu.Lock()
	_ = unix.Kill(-c.pid, unix.SIGKILL) // ESRCH: nobody is left
	_ = cmd.Wait()                      // the status says the same
	c.status, c.reaped = cmd.ProcessState, true
	c.mu.Unlock()
	close(c.exited)
}

// kill reaches the whole group while its number is ours.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.reaped {
		_ = unix.Kill(-c.pid, unix.SIGKILL) // ESRCH: it is gone, as wanted
		c.killed = true
	}
}

// close closes our ends of its pipes: at the end of its input it lets go of whatever it holds.
func (c *child) close() {
	unix.Close(c.in)
	unix.Close(c.out)
}

func (c *child) gone(limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-c.exited:
		return true
	case <-t.C:
		return false
	}
}

// bury waits for a child whose input has ended, and kills it if it does not go.
func (c *child) bury() error {
	if c.gone(killGrace) {
		return nil
	}
	c.kill()
	if !c.gone(reapGrace) {
		return fmt.Errorf("process %d is still there after SIGKILL: it waits in the kernel, for a frozen filesystem or a dead disk", c.pid)
	}
	return nil
}

// describe tells how the child ended, if it has, and its last words.
func (c *child) describe() string {
	var notes []string
	c.mu.Lock()
	if c.status != nil && !c.killed {
		notes = append(notes, c.status.String())
	}
	c.mu.Unlock()
	if said := c.words.tail(); said != "" {
		notes = append(notes, "it said: "+said)
	}
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, "; ") + ")"
}

// words keeps what a process says on its standard error, within bounds, until somebody takes it: what is said in the
// freeze window must not be logged there.
type words struct {
	mu      sync.Mutex
	kept    []byte // since the last take
	last    string // the last line that was taken
	dropped bool
}

func (w *words) read(r *os.File) {
	defer r.Close()
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		w.mu.Lock()
		if room := maxWords - len(w.kept); n > room {
			n, w.dropped = room, true
		}
		w.kept = append(w.kept, buf[:n]...)
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// take gives the lines that have come since it was called last.
func (w *words) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for line := range bytes.Lines(w.kept) {
		if text := protocol.Printable(string(line), 1000); text != "" {
			lines, w.last = append(lines, text), text
		}
	}
	if w.dropped {
		lines = append(lines, "(more, which is left out)")
	}
	w.kept, w.dropped = w.kept[:0], false
	return lines
}

func (w *words) tail() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(w.kept)), "\n")
	if last := protocol.Printable(lines[len(lines)-1], 1000); last != "" {
		return last
	}
	return w.last
}
