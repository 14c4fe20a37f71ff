package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Each guest has a supervisor: a process of the lab's own program, in a session
// of its own, that starts the kernel and outlives the lab if need be. The lab
// holds one end of a pipe; when that closes, because the lab wants it or because
// it died of whatever, the supervisor kills the guest's process group and removes
// its directory. The kernel in turn is killed if the supervisor dies.

// Names in a guest's directory.
const (
	consoleFile = "console" // what the kernel printed
	orderFile   = "order"   // the supervisor's orders
)

// order is what the supervisor has to start.
type order struct {
	Program string
	Args    []string
	Env     []string
	Dir     string
	Shell   bool
}

// machineProcess is a running machine, as the lab sees it.
type machineProcess struct {
	done     chan struct{} // closed when nothing of the guest is left
	err      error         // of the supervisor; valid once done is closed
	lifeline *os.File
	terminal *os.File // the lab's end of the shell's terminal, or nil
}

// startMachine starts a machine under a supervisor.
func startMachine(m machine) (*machineProcess, error) {
	text, err := json.Marshal(order{
		Program: filepath.Join(kernelLink, kernelProgram),
		Args:    m.commandLine(),
		Env:     []string{"LD_LIBRARY_PATH=" + kernelLink, "TMPDIR=" + m.tempdir, "HOME=" + m.dir, "PATH=/usr/bin:/bin"},
		Dir:     m.dir,
		Shell:   m.shell,
	})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(m.dir, orderFile), text, 0o600); err != nil {
		return nil, fmt.Errorf("cannot start a guest: %w", err)
	}
	if err := os.Symlink(m.kernel.dir, filepath.Join(m.dir, kernelLink)); err != nil {
		return nil, fmt.Errorf("cannot start a guest: %w", err)
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start a guest: %w", err)
	}
	defer read.Close()
	p := &machineProcess{done: make(chan struct{}), lifeline: write}
	cmd := exec.Command("/proc/self/exe", "supervise", m.dir)
	cmd.Stdin, cmd.Stderr = read, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if m.shell {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			write.Close()
			return nil, fmt.Errorf("cannot start a guest: %w", err)
		}
		p.terminal = os.NewFile(uintptr(pair[0]), "terminal")
		guestEnd := os.NewFile(uintptr(pair[1]), "terminal")
		defer guestEnd.Close()
		cmd.ExtraFiles = []*os.File{guestEnd}
	}
	if err := cmd.Start(); err != nil {
		write.Close()
		return nil, fmt.Errorf("cannot start a guest: %w", err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop ends the guest and waits until nothing of it is left.
func (p *machineProcess) stop() error {
	p.lifeline.Close()
	<-p.done
	if p.err != nil {
		return fmt.Errorf("cannot end the guest: %w", p.err)
	}
	return nil
}

// supervise is the supervisor's life: args is the guest's directory, standard
// input the pipe to the lab.
func supervise(args []string) error {
	if len(args) != 1 {
		return errors.New("internal error: supervise wants a directory")
	}
	dir := args[0]
	lock, err := holdLock(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	var o order
	text, err := os.ReadFile(filepath.Join(dir, orderFile))
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		return fmt.Errorf("cannot read the guest's orders: %w", err)
	}
	kernel, err := startKernel(o)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	ended, empty := reap(kernel, filepath.Join(dir, consoleFile))
	go pulse(kernel, ended)
	abandoned := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(abandoned)
	}()
	select {
	case <-ended:
	case <-abandoned:
	}
	return errors.Join(killGroup(kernel, empty), os.RemoveAll(dir))
}

// startKernel starts the kernel as the head of a process group and gives its id.
// The goroutine stays on its thread, because it is the thread whose end kills
// the kernel (prctl(2), PR_SET_PDEATHSIG). Helpers of the kernel that lose their
// parent become the supervisor's children.
func startKernel(o order) (int, error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, os.NewSyscallError("prctl", err)
	}
	console, err := os.OpenFile(filepath.Join(o.Dir, consoleFile), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, fmt.Errorf("cannot open the guest's console: %w", err)
	}
	defer console.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, fmt.Errorf("cannot start the kernel: %w", err)
	}
	defer null.Close()
	files := []uintptr{null.Fd(), console.Fd(), console.Fd()}
	if o.Shell {
		files = append(files, shellFD)
	}
	pid, err := syscall.ForkExec(o.Program, append([]string{"linux"}, o.Args...), &syscall.ProcAttr{
		Env:   o.Env,
		Dir:   o.Dir,
		Files: files,
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("cannot start the kernel: %w", err)
	}
	if o.Shell {
		// The terminal is the guest's alone: its other end must see it close.
		unix.Close(shellFD)
	}
	return pid, nil
}

// reap collects the supervisor's children. ended is closed when the kernel has
// ended, and how it did stands on its console; empty is closed when nothing of
// the guest is left.
func reap(kernel int, console string) (ended, empty chan struct{}) {
	ended, empty = make(chan struct{}), make(chan struct{})
	go func() {
		for {
			var status unix.WaitStatus
			pid, err := unix.Wait4(-1, &status, 0, nil)
			switch {
			case err == unix.ECHILD:
				close(empty)
				return
			case pid == kernel:
				noteEnd(console, status)
				close(ended)
			}
		}
	}()
	return ended, empty
}

// noteEnd adds to a console how the kernel's process ended. What cannot be noted
// is not worth more than the note.
func noteEnd(console string, status unix.WaitStatus) {
	how := fmt.Sprintf("exit status %d", status.ExitStatus())
	if status.Signaled() {
		how = "signal: " + status.Signal().String()
	}
	if f, err := os.OpenFile(console, os.O_WRONLY|os.O_APPEND, 0); err == nil {
		fmt.Fprintf(f, "[the kernel's process ended: %s]\n", how)
		f.Close()
	}
}

// killGroup kills a process group until nothing of it is left: the kernel's
// helpers, which are the guest's processes, do not die with it.
func killGroup(group int, empty <-chan struct{}) error {
	const limit = 10 * time.Second
	deadline := time.After(limit)
	for {
		if err := unix.Kill(-group, unix.SIGKILL); err != nil && err != unix.ESRCH {
			return fmt.Errorf("cannot kill the guest's processes: %w", err)
		}
		select {
		case <-empty:
			return nil
		case <-deadline:
			return fmt.Errorf("cannot kill the guest's processes: some of group %d live after %s", group, limit)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
