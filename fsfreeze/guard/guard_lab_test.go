//go:build lab

package guard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/lab/labtest"
)

// These tests run in three processes, as the real thing does: this one looks on and writes to the filesystems all the
// time; a guard; and a client, which freezes, suspends, and comes to harm. The latter two are this program again.
const role = "FERMATA_GUARD_TEST_ROLE"

// doomed is set for a guard that is killed between claiming a device and resuming it.
const doomed = "FERMATA_GUARD_TEST_DOOMED"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case "guard":
		err = beGuard(os.Args[1])
	case "client":
		err = beClient(os.Args[1:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

// beGuard serves on a socket in dir until it is terminated.
func beGuard(dir string) error {
	if err := fsfreeze.PinMemory(); err != nil {
		return err
	}
	control, err := dm.Open()
	if err != nil {
		return err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unixpacket"})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() { // told to stop by the end of its input
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	fmt.Println("ready")
	s := guard.Server{Notes: filepath.Join(dir, "notes"), Log: slog.New(slog.DiscardHandler), Resume: func(dev uint64) (func() error, error) {
		if os.Getenv(doomed) != "" { // it has claimed the device, and does no more
			return func() error { return unix.Kill(unix.Getpid(), unix.SIGKILL) }, nil
		}
		return control.PrepareRelease(dm.Dev(dev)), nil
	}}
	return s.Serve(ctx, l)
}

// beClient does what its arguments say, one after the other: "freeze POINT", "suspend DEVICE", "resume DEVICE", "thaw
// POINT", "announce DEVICE" without suspending it, "say WORD", "again" to do all of it for ever, "wait" for a line of input, "exit". The first two are the guard's directory
// and the deadline, the third lists points, the fourth devices, separated by commas.
func beClient(args []string) error {
	dir, points, devices := args[0], split(args[2]), split(args[3])
	deadline, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	control, err := dm.Open()
	if err != nil {
		return err
	}
	mounts, err := fsfreeze.Mounts()
	if err != nil {
		return err
	}
	handles := map[string]*fsfreeze.Handle{}
	var all []*fsfreeze.Handle
	for _, p := range points {
		m, ok := fsfreeze.At(mounts, p)
		if !ok {
			return fmt.Errorf("nothing is mounted at %s", p)
		}
		h, err := fsfreeze.Open(fsfreeze.Filesystem{Dev: m.Dev, Type: m.FSType, Mounts: []fsfreeze.Mount{m}})
		if err != nil {
			return err
		}
		handles[p] = h
		all = append(all, h)
	}
	devs := make([]uint64, len(devices))
	for i, d := range devices {
		info, err := control.Info(dm.ByName(d))
		if err != nil {
			return err
		}
		devs[i] = uint64(info.Dev)
	}
	if err := fsfreeze.PinMemory(); err != nil {
		return err
	}
	for {
		a, err := guard.Arm(context.Background(), filepath.Join(dir, "socket"), "set", deadline, all, devs, func(dev uint64) func() error { return control.PrepareRelease(dm.Dev(dev)) })
		if err != nil {
			return err
		}
		again, err := act(a, args[4:], handles, devices, control)
		if err != nil {
			return err
		}
		why, report, err := a.Close()
		if err != nil && os.Getenv(doomed) == "" {
			return err
		}
		if !again {
			fmt.Printf("closed: %v %v\n", why, report.Released)
			return nil
		}
	}
}

func act(a *guard.Armed, script []string, handles map[string]*fsfreeze.Handle, devices []string, control *dm.Control) (again bool, err error) {
	for _, line := range script {
		verb, object, _ := strings.Cut(line, " ")
		i := slices.Index(devices, object)
		switch verb {
		case "freeze":
			err = handles[object].Freeze()
		case "thaw":
			err = handles[object].Thaw()
		case "announce":
			a.DeviceCell(i).Begin()
		case "suspend":
			if a.DeviceCell(i).Begin() {
				err = control.Suspend(dm.ByName(object), dm.SkipLockFS)
				a.DeviceCell(i).Took(err == nil)
			}
		case "resume":
			if a.DeviceCell(i).Claim() {
				err = control.Resume(dm.ByName(object), dm.SkipLockFS)
				a.DeviceCell(i).Done()
			}
		case "say":
			fmt.Println(object)
		case "wait":
			fmt.Println("waiting")
			_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		case "again":
			return true, nil
		case "exit":
			os.Exit(7)
		}
		if err != nil && !errors.Is(err, fsfreeze.ErrOvertaken) {
			return false, fmt.Errorf("%s: %w", line, err)
		}
	}
	return false, nil
}

func split(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// process is a guard or a client.
type process struct {
	*exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	dead chan struct{}
}

func start(t *testing.T, as string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	do(t, err)
	p := &process{Cmd: exec.Command(self, args...), dead: make(chan struct{})}
	p.Env, p.Stderr = append(os.Environ(), role+"="+as), os.Stderr
	p.in, err = p.StdinPipe()
	do(t, err)
	out, err := p.StdoutPipe()
	do(t, err)
	p.out = bufio.NewReader(out)
	do(t, p.Start())
	go func() {
		_, _ = p.Process.Wait()
		close(p.dead)
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill() // it may be dead already
		_ = p.in.Close()
		<-p.dead
	})
	return p
}

func (p *process) says(t *testing.T, want string) {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, want) {
		t.Fatalf("it said %q (%v), not %q", line, err, want)
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stage is where a hold takes place: ext4 on a device-mapper device, XFS on a disk, a guard, and a writer to each.
type stage struct {
	dir     string
	guard   *process
	points  []string
	probers []*prober
}

const device = "fermata-guard-test"

func newStage(t *testing.T) *stage {
	t.Helper()
	labtest.CheckClean(t)
	s := &stage{dir: t.TempDir(), points: []string{"/srv/guard-a", "/srv/guard-b"}}
	disks := labtest.Disks(t)
	labtest.Run(t, "wipefs", "-aq", disks[0], disks[1])
	t.Cleanup(func() { labtest.Run(t, "wipefs", "-aq", disks[0], disks[1]) })
	labtest.Run(t, "dmsetup", "create", device, "--table", "0 524288 linear "+disks[0]+" 0")
	t.Cleanup(func() { labtest.Run(t, "dmsetup", "remove", "--retry", device) })
	labtest.Run(t, "dmsetup", "mknodes", device) // where no udev does it
	labtest.Run(t, "mkfs.ext4", "-q", "/dev/mapper/"+device)
	labtest.Run(t, "mkfs.xfs", "-q", disks[1])
	for i, what := range [][2]string{{"/dev/mapper/" + device, "ext4"}, {disks[1], "xfs"}} {
		do(t, os.MkdirAll(s.points[i], 0o755))
		do(t, unix.Mount(what[0], s.points[i], what[1], 0, ""))
		t.Cleanup(func() { labtest.Run(t, "umount", s.points[i]) })
	}
	s.guard = start(t, "guard", s.dir)
	s.guard.says(t, "ready")
	for _, p := range s.points {
		s.probers = append(s.probers, probe(t, p))
	}
	return s
}

// client starts a client that arms the guard for everything and then does as it is told.
func (s *stage) client(t *testing.T, deadline time.Duration, script ...string) *process {
	t.Helper()
	return start(t, "client", append([]string{s.dir, deadline.String(), strings.Join(s.points, ","), device}, script...)...)
}

// hold is the script of a client that holds everything.
func (s *stage) hold() []string {
	return []string{"freeze " + s.points[0], "freeze " + s.points[1], "suspend " + device}
}

func (s *stage) letGo() []string {
	return []string{"resume " + device, "thaw " + s.points[1], "thaw " + s.points[0]}
}

// held waits until nobody can write any more.
func (s *stage) held(t *testing.T) {
	t.Helper()
	await(t, 10*time.Second, "held", func() bool {
		return !slices.ContainsFunc(s.probers, func(p *prober) bool { return p.still() < 100*time.Millisecond })
	})
}

// released waits until everybody can write again, which must be within a time from when.
func (s *stage) released(t *testing.T, from time.Time, limit time.Duration) {
	t.Helper()
	await(t, limit+10*time.Second, "released", func() bool {
		return !slices.ContainsFunc(s.probers, func(p *prober) bool { return p.last().Before(from) || p.still() > 100*time.Millisecond })
	})
	for _, p := range s.probers {
		began, stall := p.stall()
		late := began.Add(stall).Sub(from)
		t.Logf("%s stood still for %v, until %v after", p.point, stall.Round(time.Millisecond), late.Round(time.Millisecond))
		if late > limit {
			t.Errorf("%s was released %v after, %v are allowed", p.point, late, limit)
		}
	}
}

func await(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s within %v", what, limit)
		}
	}
}

// note is what the guard left for the next start of the daemon.
func (s *stage) note(t *testing.T) (r guard.Report) {
	t.Helper()
	name := filepath.Join(s.dir, "notes", "set.json")
	await(t, 10*time.Second, "noted", func() bool { _, err := os.Stat(name); return err == nil })
	b, err := os.ReadFile(name)
	do(t, err)
	do(t, json.Unmarshal(b, &r))
	return r
}

// prober writes to a filesystem all the time, and keeps when it last could, and how long it once could not.
type prober struct {
	point   string
	written atomic.Int64 // when the last write came through, Unix nanoseconds
	worst   atomic.Int64 // the longest time between two
	since   atomic.Int64 // when that began
}

func probe(t *testing.T, point string) *prober {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(point, "probe"), os.O_CREATE|os.O_WRONLY, 0o644)
	do(t, err)
	p := &prober{point: point}
	p.written.Store(time.Now().UnixNano())
	stop, over := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				over <- f.Close()
				return
			default:
			}
			if _, err := f.WriteAt([]byte("x"), 0); err != nil { // waits while the filesystem is frozen
				over <- errors.Join(err, f.Close())
				return
			}
			if err := f.Sync(); err != nil { // waits while the device is suspended
				over <- errors.Join(err, f.Close())
				return
			}
			now := time.Now().UnixNano()
			last := p.written.Swap(now)
			if now-last > p.worst.Load() {
				p.worst.Store(now - last)
				p.since.Store(last)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *prober) last() time.Time      { return time.Unix(0, p.written.Load()) }
func (p *prober) still() time.Duration { return time.Since(p.last()) }
func (p *prober) stall() (time.Time, time.Duration) {
	return time.Unix(0, p.since.Load()), time.Duration(p.worst.Load())
}

var everything = []string{"/srv/guard-a", "/srv/guard-b"}

// checkNote looks at the note: both filesystems and the device were released, for that reason.
func (s *stage) checkNote(t *testing.T, reason guard.Reason) {
	t.Helper()
	r := s.note(t)
	if r.Reason != reason.String() || len(r.Released) != 3 || !slices.Equal(r.Released[:2], everything) || !strings.HasPrefix(r.Released[2], "device ") || len(r.Errors) > 0 {
		t.Errorf("the guard's note: %+v", r)
	}
}

func TestClientKilled(t *testing.T) {
	s := newStage(t)
	c := s.client(t, time.Minute, append(s.hold(), "wait")...)
	c.says(t, "waiting")
	s.held(t)
	killed := time.Now()
	do(t, c.Process.Kill())
	s.released(t, killed, time.Second)
	s.checkNote(t, guard.Died)
}

func TestClientExits(t *testing.T) {
	s := newStage(t)
	c := s.client(t, time.Minute, append(s.hold(), "wait", "exit")...)
	c.says(t, "waiting")
	s.held(t)
	asked := time.Now()
	do(t, c.in.Close())
	s.released(t, asked, time.Second)
	s.checkNote(t, guard.Died)
}

// A client that is stopped until the deadline finds everything released when it comes back, and releases nothing again.
func TestClientStopped(t *testing.T) {
	s := newStage(t)
	armed := time.Now()
	const deadline = 3 * time.Second
	c := s.client(t, deadline, slices.Concat(s.hold(), []string{"wait"}, s.letGo())...)
	c.says(t, "waiting")
	do(t, c.Process.Signal(unix.SIGSTOP))
	s.held(t)
	s.released(t, armed.Add(deadline), 2*time.Second) // it armed a moment later than this process thinks
	// Somebody else freezes meanwhile: not the client's to thaw.
	labtest.Run(t, "fsfreeze", "-f", s.points[0])
	do(t, c.Process.Signal(unix.SIGCONT))
	do(t, c.in.Close())
	c.says(t, "closed: deadline ["+strings.Join(everything, " ")+" device ")
	<-c.dead
	time.Sleep(200 * time.Millisecond)
	if s.probers[0].still() < 200*time.Millisecond {
		t.Error("somebody else's freeze was thawed")
	}
	labtest.Run(t, "fsfreeze", "-u", s.points[0])
}

// The deadline passes, the guard claims the device, and is killed before it resumes it. The client, which lives, releases
// everything, once.
func TestGuardKilledAfterItsClaim(t *testing.T) {
	t.Setenv(doomed, "1")
	s := newStage(t)
	c := s.client(t, 2*time.Second, append(s.hold(), "wait")...)
	c.says(t, "waiting")
	s.held(t)
	<-s.guard.dead
	asked := time.Now()
	do(t, c.in.Close())
	c.says(t, "closed: deadline ["+strings.Join(everything, " ")+" device ")
	s.released(t, asked, time.Second)
	for _, p := range s.points { // nothing is held any more
		labtest.Run(t, "fsfreeze", "-f", p)
		labtest.Run(t, "fsfreeze", "-u", p)
	}
}

// Everything is released by the deadline while the client goes on as if nothing had happened.
func TestDeadline(t *testing.T) {
	s := newStage(t)
	const deadline = 2 * time.Second
	c := s.client(t, deadline, slices.Concat(s.hold(), []string{"wait"}, s.letGo())...)
	c.says(t, "waiting")
	armed := time.Now()
	s.held(t)
	s.released(t, armed.Add(deadline), time.Second)
	do(t, c.in.Close())
	c.says(t, "closed: deadline [")
}

// A guard that is told to stop lets go first.
func TestGuardStopped(t *testing.T) {
	s := newStage(t)
	c := s.client(t, time.Minute, slices.Concat(s.hold(), []string{"wait"}, s.letGo())...)
	c.says(t, "waiting")
	s.held(t)
	asked := time.Now()
	do(t, s.guard.in.Close())
	s.released(t, asked, time.Second)
	do(t, c.in.Close())
	c.says(t, "closed: guard was stopped [")
	<-s.guard.dead
}

// A hold in order leaves nothing to the guard.
func TestInOrder(t *testing.T) {
	s := newStage(t)
	c := s.client(t, time.Minute, slices.Concat(s.hold(), s.letGo())...)
	c.says(t, "closed: closed []")
	s.released(t, time.Now(), time.Second)
	if _, err := os.Stat(filepath.Join(s.dir, "notes")); err == nil {
		t.Errorf("the guard left a note: %+v", s.note(t))
	}
}

// A client that dies between announcing a freeze and asking the kernel for it leaves nothing to wait for: the guard lets the
// filesystem go.
func TestClientKilledBeforeTheFreeze(t *testing.T) {
	s := newStage(t)
	c := s.client(t, time.Minute, "announce "+device, "wait")
	c.says(t, "waiting")
	do(t, c.Process.Kill())
	if r := s.note(t); len(r.Released) != 0 || len(r.Errors) != 0 {
		t.Errorf("the guard's note: %+v", r)
	}
}

// Whenever the client dies, everything is released within a second.
func TestClientKilledAnywhere(t *testing.T) {
	s := newStage(t)
	script := append(slices.Concat(s.hold(), s.letGo()), "again")
	var worst time.Duration
	for range 15 {
		c := s.client(t, time.Minute, script...)
		await(t, 10*time.Second, "begun", func() bool { _, stall := s.probers[0].stall(); return stall > 0 })
		time.Sleep(300*time.Millisecond + rand.N(100*time.Millisecond))
		killed := time.Now()
		do(t, c.Process.Kill())
		await(t, 10*time.Second, "released", func() bool {
			return !slices.ContainsFunc(s.probers, func(p *prober) bool { return p.last().Before(killed) })
		})
		worst = max(worst, time.Since(killed))
		<-c.dead
		time.Sleep(20 * time.Millisecond)
		for _, p := range s.points { // nothing is held, and nothing was thawed that was not frozen
			labtest.Run(t, "fsfreeze", "-f", p)
			labtest.Run(t, "fsfreeze", "-u", p)
		}
	}
	t.Logf("released %v after death at the latest", worst.Round(time.Millisecond))
	if worst > time.Second {
		t.Errorf("released %v after death", worst)
	}
}

// A client that is killed in the middle of a freeze that hangs need not die before that ends (on Linux 6.1 it does not,
// on 6.12 it does). The deadline ends it at the latest.
func TestClientKilledInAFreezeThatHangs(t *testing.T) {
	s := newStage(t)
	file := filepath.Join(s.points[0], "disk.img")
	labtest.Run(t, "truncate", "-s", "64M", file)
	labtest.Run(t, "mkfs.ext4", "-q", file)
	loop := strings.TrimSpace(labtest.Run(t, "losetup", "--find", "--show", file))
	t.Cleanup(func() { labtest.Run(t, "losetup", "-d", loop) })
	img := "/srv/guard-img"
	do(t, os.MkdirAll(img, 0o755))
	do(t, unix.Mount(loop, img, "ext4", 0, ""))
	t.Cleanup(func() { labtest.Run(t, "umount", img) })
	s.points = append(s.points, img)
	s.probers = append(s.probers, probe(t, img))
	const deadline = 4 * time.Second
	armed := time.Now()
	c := s.client(t, deadline, "freeze "+s.points[0], "say frozen", "freeze "+img)
	s.probers = []*prober{s.probers[0], s.probers[2]}
	c.says(t, "frozen")
	s.held(t)
	do(t, c.Process.Kill())
	s.released(t, armed.Add(deadline), 2*time.Second)
	<-c.dead
	s.note(t) // the guard has let go of the image, which would be busy otherwise
}
