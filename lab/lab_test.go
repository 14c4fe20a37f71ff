package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests named TestGuest boot guests: `go test -run TestGuest ./lab`. They run
// the lab as a user does, as a program.

// programDir is where the tests' own lab is built.
var programDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "lab-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// labProgram builds the lab and what its guests need, once.
var labProgram = sync.OnceValues(func() (string, error) {
	program := filepath.Join(programDir, "lab")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot build the lab: %w\n%s", err, out)
	}
	if out, err := exec.Command(program, "setup", "--no-programs", "--kernel", testKernel()).CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot set the lab up: %w\n%s", err, out)
	}
	return program, nil
})

// testKernel chooses the kernel of these tests: the default, or another one to
// see that they hold there too.
func testKernel() string {
	if k := os.Getenv("FERMATA_LAB_KERNEL"); k != "" {
		return k
	}
	return defaultKernel
}

// lab starts the lab with arguments.
func lab(t *testing.T, verb string, args ...string) *exec.Cmd {
	t.Helper()
	program, err := labProgram()
	if err != nil {
		t.Fatal(err)
	}
	if verb == "run" {
		args = append([]string{"--no-programs", "--kernel", testKernel(), "--timeout", "2m"}, args...)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, append([]string{verb}, args...)...)
	cmd.Env = os.Environ()
	return cmd
}

// result is how a run of the lab ended.
type result struct {
	code        int
	out, stderr string
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), stderr.String()}
}

// run runs the lab and wants a certain exit status.
func run(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := finish(t, lab(t, "run", args...))
	if r.code != code {
		t.Fatalf("exit status %d, want %d\n%s%s", r.code, code, r.out, r.stderr)
	}
	return r
}

func TestGuestExitStatusAndOutput(t *testing.T) {
	r := run(t, 7, "--no-systemd", "--env", "ANSWER=42", "--", "sh", "-c",
		`echo "out $ANSWER $(id -u)"; echo err >/dev/stderr; exit 7`)
	if r.out != "out 42 0\n" || r.stderr != "err\n" {
		t.Errorf("output %q, error output %q", r.out, r.stderr)
	}
}

func TestGuestSignalledCommand(t *testing.T) {
	run(t, 128+9, "--no-systemd", "--", "sh", "-c", "kill -9 $$")
}

func TestGuestMissingCommand(t *testing.T) {
	r := run(t, exitLab, "--no-systemd", "--", "no-such-command")
	if !strings.Contains(r.stderr, "no-such-command") {
		t.Errorf("the error does not name the command: %s", r.stderr)
	}
}

// Every byte arrives, in order, and much of it.
func TestGuestBinaryOutput(t *testing.T) {
	r := run(t, 0, "--no-systemd", "--", "python3", "-c",
		"import sys\nfor i in range(40960): sys.stdout.buffer.write(bytes(range(256)))")
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	if r.out != strings.Repeat(string(all), 40960) {
		t.Errorf("%d bytes of output arrived, want %d, each as it was", len(r.out), 256*40960)
	}
}

// Output comes while the command runs.
func TestGuestLiveOutput(t *testing.T) {
	cmd := lab(t, "run", "--no-systemd", "--", "sh", "-c", "echo first; sleep 100")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 6)
	if n, err := out.Read(line); err != nil || string(line[:n]) != "first\n" {
		t.Errorf("read %q, %v", line[:n], err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 128+15 {
		t.Errorf("exit status %d after SIGTERM, want %d", code, 128+15)
	}
}

// The working directory is kept, and the repository can be read, not written.
func TestGuestSeesRepository(t *testing.T) {
	r := run(t, 1, "--no-systemd", "--", "sh", "-c", "pwd; test -f packages.txt && echo seen; touch written")
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if r.out != cwd+"\nseen\n" {
		t.Errorf("output %q, want %q and that a file was seen", r.out, cwd)
	}
}

func TestGuestTimeout(t *testing.T) {
	start := time.Now()
	r := run(t, exitTimeout, "--timeout", "4s", "--no-systemd", "--", "sleep", "1000")
	if !strings.Contains(r.stderr, "time-out") || !strings.Contains(r.stderr, "Linux version") && !strings.Contains(r.stderr, "device-mapper") {
		t.Errorf("no word of the time-out, or no console: %s", r.stderr)
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("took %s", d)
	}
}

func TestGuestPanic(t *testing.T) {
	r := run(t, exitLab, "--no-systemd", "--", "sh", "-c", "echo before; sleep 0.5; echo c >/proc/sysrq-trigger; sleep 100")
	if r.out != "before\n" || !strings.Contains(r.stderr, "sysrq triggered crash") {
		t.Errorf("output %q; no console: %s", r.out, r.stderr)
	}
}

// Whatever ends the lab, no process and no file of the guest stays.
func TestGuestLeavesNothing(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			cmd := lab(t, "run", "--no-systemd", "--disk", "64M", "--", "sh", "-c", "sleep 1000 & sleep 1001 & echo up; wait")
			guests := t.TempDir()
			cmd.Env = append(cmd.Env, "FERMATA_LAB_GUESTS="+guests)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if n, err := out.Read(make([]byte, 3)); err != nil {
				t.Fatalf("read %d bytes: %v", n, err)
			}
			if len(processesNaming(t, guests)) == 0 || len(entries(t, guests)) == 0 {
				t.Fatal("the guest cannot be seen from outside: this test sees nothing")
			}
			cmd.Process.Signal(signal)
			cmd.Wait()
			deadline := time.Now().Add(10 * time.Second)
			for len(processesNaming(t, guests))+len(entries(t, guests)) > 0 {
				if time.Now().After(deadline) {
					t.Fatalf("left: processes %v, files %v", processesNaming(t, guests), entries(t, guests))
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

func entries(t *testing.T, dir string) []string {
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// processesNaming gives the processes that have a text in their command line, as
// every process of a guest has its directory.
func processesNaming(t *testing.T, text string) []string {
	var found []string
	for _, pid := range entries(t, "/proc") {
		line, err := os.ReadFile(filepath.Join("/proc", pid, "cmdline"))
		if err == nil && bytes.Contains(line, []byte(text)) && pid != "self" {
			found = append(found, pid)
		}
	}
	return found
}

func TestGuestsInParallel(t *testing.T) {
	var wait sync.WaitGroup
	for i := range 2 {
		wait.Go(func() {
			want := fmt.Sprintf("guest %d\n", i)
			r := finish(t, lab(t, "run", "--no-systemd", "--disk", "64M", "--", "sh", "-c",
				"mkfs.ext4 -q $LAB_DISKS && sleep 1 && echo guest "+fmt.Sprint(i)))
			if r.code != 0 || r.out != want {
				t.Errorf("exit status %d, output %q, want %q\n%s", r.code, r.out, want, r.stderr)
			}
		})
	}
	wait.Wait()
}

func TestGuestDisks(t *testing.T) {
	r := run(t, 0, "--no-systemd", "--disk", "1G", "--disk", "200M", "--", "sh", "-c",
		`echo $LAB_DISKS; for d in $LAB_DISKS; do blockdev --getsize64 $d; done`)
	if want := "/dev/ubda /dev/ubdb\n1073741824\n209715200\n"; r.out != want {
		t.Errorf("output %q, want %q", r.out, want)
	}
}

// makeThinPool makes a thin pool, a thin volume with a filesystem, and a snapshot
// of it, in one guest, by LVM's own tools.
const makeThinPool = `set -e
vgcreate -q vg $LAB_DISKS
lvcreate -q -L 256M -T vg/pool
lvcreate -q -V 512M -T vg/pool -n data
mkfs.xfs -q /dev/vg/data
mount /dev/vg/data /mnt
echo kept >/mnt/file
lvcreate -q -s vg/data -n snap -kn
umount /mnt
mount -o nouuid /dev/vg/snap /mnt
cat /mnt/file
umount /mnt
lvchange -an vg
vgremove -q -f vg
ls /dev/mapper
`

func TestGuestThinPool(t *testing.T) {
	for _, init := range []string{"small init", "systemd"} {
		t.Run(init, func(t *testing.T) {
			args := []string{"--disk", "1G", "--disk", "1G", "--", "sh", "-c", makeThinPool}
			if init == "small init" {
				args = append([]string{"--no-systemd"}, args...)
			}
			if r := run(t, 0, args...); !strings.Contains(r.out, "kept\n") || !strings.HasSuffix(r.out, "\ncontrol\n") {
				t.Errorf("output %s", r.out)
			}
		})
	}
}

func TestGuestSystemd(t *testing.T) {
	r := run(t, 0, "--disk", "64M", "--", "sh", "-c", `busctl --no-pager list | grep -o ^org.freedesktop.DBus
		systemctl is-system-running --wait
		udevadm info --query=property --property=DEVNAME --value $LAB_DISKS
		systemctl --no-legend --failed
		systemctl is-active postgresql mariadb redis-server prometheus`+"\nexit 0")
	if want := "org.freedesktop.DBus\nrunning\n/dev/ubda\ninactive\ninactive\ninactive\ninactive\n"; r.out != want {
		t.Errorf("output %q, want %q\n%s", r.out, want, r.stderr)
	}
}

func TestGuestServers(t *testing.T) {
	r := run(t, 0, "--", "sh", "-ec", `systemctl start postgresql mariadb redis-server
		su postgres -c 'psql -Atc "select 40 + 2"'
		mariadb -Ne 'select 43'
		redis-cli ping`)
	if want := "42\n43\nPONG\n"; r.out != want {
		t.Errorf("output %q, want %q\n%s", r.out, want, r.stderr)
	}
}

// A test binary runs in a guest as it would on the host: where it was started,
// with its flags, and able to write where `go test` wants it to.
func TestGuestTestVerb(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "lab.test")
	if out, err := exec.Command("go", "test", "-c", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	log := filepath.Join(dir, "testlog.txt")
	cmd := lab(t, "test", binary, "-test.v", "-test.run=^TestInside$", "-test.timeout=1m", "-test.testlogfile="+log)
	cmd.Env = append(cmd.Env, "FERMATA_LAB_PROGRAMS=0", "FERMATA_LAB_DISKS=64M 64M 64M", "FERMATA_LAB_ENV=LAB_TEST_CWD",
		"LAB_TEST_CWD="+mustGetwd(t))
	r := finish(t, cmd)
	if r.code != 0 || !strings.Contains(r.out, "--- PASS: TestInside") {
		t.Errorf("exit status %d\n%s%s", r.code, r.out, r.stderr)
	}
	if _, err := os.Stat(log); err != nil {
		t.Errorf("the test binary could not write its log: %v", err)
	}
}

// TestInside is what TestGuestTestVerb runs in its guest; on the host it has
// nothing to look at.
func TestInside(t *testing.T) {
	if os.Getenv("FERMATA_LAB") == "" {
		return
	}
	if disks := strings.Fields(os.Getenv("LAB_DISKS")); len(disks) == 0 {
		t.Error("no disks")
	}
	if want := os.Getenv("LAB_TEST_CWD"); want != "" && mustGetwd(t) != want {
		t.Errorf("working directory %s, want %s", mustGetwd(t), want)
	}
	if os.Getuid() != 0 {
		t.Error("not root")
	}
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return cwd
}

func TestGuestShell(t *testing.T) {
	cmd := lab(t, "shell", "--no-programs", "--no-systemd", "--kernel", testKernel())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen []byte
	for buf := make([]byte, 1024); ; {
		n, err := out.Read(buf)
		seen = append(seen, buf[:n]...)
		if err != nil {
			break
		}
		if bytes.HasSuffix(seen, []byte("# ")) {
			fmt.Fprint(in, "tty; exit $((40+2))\n")
		}
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 42 || !bytes.Contains(seen, []byte("/dev/tty1")) {
		t.Errorf("exit status %d, output %q", code, seen)
	}
}
