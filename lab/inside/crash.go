package inside

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/journal"
)

// journalDir is where fermatad announces what it is about to do.
const journalDir = "/run/fermata/journal"

// exitNotReached is the exit status when the command ended before its point.
const exitNotReached = 125

// Crash runs the verbs that a command in the guest uses to come to harm: cut,
// and at. It gives the exit status.
//
// A point is a record of fermatad's journal, STEP:STATE, or, where fermatad holds
// something and writes none, an ioctl of it: STEP:OPERATION:N:before and :after,
// such as window:suspend:2:before.
func Crash(verb string, args []string) (int, error) {
	if verb == "cut" {
		return exitNotReached, cut()
	}
	w, command, err := parseAt(args)
	if err != nil {
		return 2, err
	}
	return w.run(command)
}

// parseAt reads "list -- COMMAND", "POINT cut -- COMMAND" and "POINT SIGNAL
// PROGRAM -- COMMAND".
func parseAt(args []string) (watch, []string, error) {
	i := slices.Index(args, "--")
	if i < 0 || i == len(args)-1 {
		return watch{}, nil, errors.New("at wants a command: at POINT ACT -- COMMAND")
	}
	words, command := args[:i], args[i+1:]
	switch {
	case len(words) == 1 && words[0] == "list":
		return watch{act: func() error { return nil }}, command, nil
	case len(words) == 2 && words[1] == "cut":
		return watch{point: words[0], act: cut}, command, nil
	case len(words) >= 3:
		signal := unix.SignalNum("SIG" + words[1])
		if signal == 0 {
			return watch{}, nil, fmt.Errorf("there is no signal %q", words[1])
		}
		return watch{point: words[0], act: func() error { return signalAll(words[2:], signal) }}, command, nil
	}
	return watch{}, nil, fmt.Errorf("cannot understand %q: list, POINT cut, or POINT SIGNAL and programs", words)
}

// watch acts at a point: the record of the journal with that number, the first of
// that STEP:STATE, or an ioctl; at no point if it is empty.
type watch struct {
	point   string
	act     func() error
	reached bool
	late    int // so many records had followed the point when it was seen
	failed  error
	seen    int            // records
	known   map[string]int // lines of each file
	holding string         // the step whose ioctls are points
}

// run runs the command and acts when its point comes. Its thread has a real-time
// priority: on the guest's one processor it runs as soon as the system call that
// wrote the record ends, and the writer does not.
func (w *watch) run(command []string) (int, error) {
	debug.SetGCPercent(-1)
	if err := os.MkdirAll(journalDir, 0o700); err != nil {
		return 1, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, journalDir, unix.IN_MODIFY)
	}
	if err != nil {
		return 1, fmt.Errorf("cannot watch the journal: %w", err)
	}
	watching, ready := make(chan error, 1), make(chan bool)
	go func() {
		runtime.LockOSThread() // before the command is another thread's child
		close(ready)
		watching <- w.follow(fd)
	}()
	<-ready
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
	}()
	var code int
	select {
	case err = <-watching:
		if err != nil {
			return 1, errors.Join(err, cmd.Process.Kill())
		}
		code, err = exitCode(<-ended)
	case err = <-ended:
		code, err = exitCode(err)
	}
	if err != nil {
		return 1, err
	}
	if w.late > 0 {
		return exitNotReached, fmt.Errorf("point %s was seen too late, %d records after it", w.point, w.late)
	}
	if w.point != "" && !w.reached {
		return exitNotReached, fmt.Errorf("point %s was never reached in %d records; the command ended with status %d", w.point, w.seen, code)
	}
	if w.failed != nil && code == 0 {
		code = 1
	}
	return code, w.failed
}

// watchPriority is above that of fermatad's freeze window.
const watchPriority = 50

// follow reads the journal whenever it grows, until the point is reached. Where the ioctls between two records are points,
// it traces fermatad from the first of these records on.
func (w *watch) follow(fd int) error {
	if err := realTime(watchPriority); err != nil {
		return err
	}
	w.known = map[string]int{}
	for {
		if err := grown(fd); err != nil {
			return err
		}
		reached, err := w.look()
		for !reached && err == nil && w.holding != "" {
			reached, err = w.trace()
		}
		if reached || err != nil {
			return err
		}
	}
}

// trace follows the ioctls of fermatad until the point is reached, or fermatad announces that nothing is held any more.
func (w *watch) trace() (reached bool, err error) {
	pids, err := processes("fermatad")
	pids = withoutChildren(pids)
	if err == nil && len(pids) != 1 {
		err = fmt.Errorf("%d processes have that name", len(pids))
	}
	if err != nil {
		return false, fmt.Errorf("cannot trace fermatad: %w", err)
	}
	var failed error
	t := tracer{passed: w.ioctl, wrote: func() bool {
		reached, failed = w.look()
		return reached || failed != nil || w.holding == ""
	}}
	if err := t.attach(pids[0]); err != nil {
		return false, err
	}
	err = errors.Join(t.follow(), failed)
	return w.reached, errors.Join(err, t.detach()) // a daemon that lives goes on
}

// grown waits until something is written to a journal.
func grown(fd int) error {
	events := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, events)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return fmt.Errorf("cannot watch the journal: %w", err)
		}
		return nil
	}
}

// look reads what is new in the journals, up to the point.
func (w *watch) look() (reached bool, err error) {
	files, err := filepath.Glob(journalDir + "/*.journal")
	if err != nil {
		return false, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // gone: its transaction has ended
		}
		if w.read(name, string(text)) {
			return true, nil
		}
	}
	return false, nil
}

// read reads what is new in the text of one journal, up to the point; true if it is there.
func (w *watch) read(name, text string) bool {
	complete := text[:strings.LastIndexByte(text, '\n')+1]
	lines := strings.SplitAfter(complete, "\n") // the last is empty
	for w.known[name] < len(lines)-1 {
		line := lines[w.known[name]]
		w.known[name]++
		if w.record(line, len(lines)-1-w.known[name]) {
			return true
		}
	}
	return false
}

// record looks at one record, which so many others already follow, and acts if it is the point; true if it was. It does not
// act if others follow: fermatad is past the point. It may be: Linux holds real-time threads back for what they took too much,
// and a guest whose host stood still for seconds seems to have let them run for as long. They cannot be exempt: whoever watches
// with such a priority would leave nothing to the rest of a slow guest.
func (w *watch) record(line string, follow int) bool {
	w.seen++
	name := pointName(line)
	step, state, _ := strings.Cut(name, ":")
	if slices.Contains(journal.Holding, step) && state == string(journal.Doing) && (w.point == "" || strings.HasPrefix(w.point, step+":") && strings.Count(w.point, ":") == 3) {
		w.holding = step
	}
	if w.point == "" {
		if w.holding == step && state != string(journal.Doing) {
			w.holding = ""
		}
		fmt.Printf("%d %s\n", w.seen, name)
		return false
	}
	if w.point != name && w.point != strconv.Itoa(w.seen) {
		return false
	}
	if follow == 0 {
		w.reach()
	}
	w.late = follow
	return true
}

// ioctl looks at one ioctl, and acts if it is the point; true if it was.
func (w *watch) ioctl(name string) bool {
	switch name = w.holding + ":" + name; {
	case w.point == "":
		fmt.Printf("- %s\n", name)
		return false
	case w.point != name:
		return false
	}
	w.reach()
	return true
}

// reach acts, and tells when: nanoseconds of the monotonic clock.
func (w *watch) reach() {
	var now unix.Timespec
	w.failed = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	w.failed = errors.Join(w.failed, w.act())
	w.reached = true
	fmt.Fprintf(os.Stderr, "%s at %d\n", w.point, now.Nano())
}

// pointName is the STEP:STATE of a record (package daemon/journal has its
// format).
func pointName(line string) string {
	value := func(key string) string {
		_, rest, _ := strings.Cut(line, `"`+key+`":"`)
		v, _, _ := strings.Cut(rest, `"`)
		return v
	}
	return value("step") + ":" + value("state")
}

// cut asks the lab to cut the power, and keeps everything else in the guest from
// running until it does.
func cut() error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	// Real-time threads leave a twentieth of the processor to others otherwise.
	err := os.WriteFile("/proc/sys/kernel/sched_rt_runtime_us", []byte("-1"), 0)
	if err == nil {
		err = realTime(99)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(SharedDir, CutFile), []byte("now\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot cut the power: %w", err)
	}
	const patience = time.Minute
	for begin := time.Now(); time.Since(begin) < patience; {
	}
	return errors.New("cannot cut the power: nobody does it (is this a guest of lab crash?)")
}

// realTime gives the calling thread a real-time priority (sched(7)).
func realTime(priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return fmt.Errorf("cannot take a real-time priority: %w", err)
	}
	return nil
}

// signalAll sends a signal to every process of some programs, one after the other.
func signalAll(programs []string, signal unix.Signal) error {
	var doomed []int
	for _, program := range programs {
		pids, err := processes(program)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return fmt.Errorf("no process of %s runs", program)
		}
		doomed = append(doomed, pids...)
	}
	for _, pid := range doomed {
		if err := unix.Kill(pid, signal); err != nil {
			return fmt.Errorf("cannot send %v to process %d: %w", signal, pid, err)
		}
	}
	return nil
}

// withoutChildren leaves out those whose parent is among them: about to be another program.
func withoutChildren(pids []int) []int {
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		_, after, _ := strings.Cut(string(status), "\nPPid:\t")
		parent, _, _ := strings.Cut(after, "\n")
		n, parseErr := strconv.Atoi(parent)
		return err == nil && parseErr == nil && slices.Contains(pids, n)
	})
}

// processes are those of a program, by its name, or of a service of systemd, whatever their names.
func processes(name string) ([]int, error) {
	var pids []int
	if strings.HasSuffix(name, ".service") {
		own, err := filepath.Glob("/sys/fs/cgroup/*.slice/" + name + "/cgroup.procs")
		if err != nil {
			return nil, err
		}
		below, err := filepath.Glob("/sys/fs/cgroup/*.slice/" + name + "/*/cgroup.procs")
		if err != nil {
			return nil, err
		}
		for _, file := range append(own, below...) {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			for word := range strings.FieldsSeq(string(text)) {
				pid, err := strconv.Atoi(word)
				if err != nil {
					return nil, err
				}
				pids = append(pids, pid)
			}
		}
		return pids, nil
	}
	comms, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, err
	}
	for _, comm := range comms {
		text, err := os.ReadFile(comm)
		if err != nil || strings.TrimSpace(string(text)) != name {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(comm)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
