package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram in the environment makes the test's own program fermata-writer.
const asProgram = "TEST_AS_FERMATA_WRITER"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// program is fermata-writer with these arguments.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// talk writes lines and returns what was said and the exit status.
func talk(t *testing.T, lines string, args ...string) (out, errs string, status int) {
	t.Helper()
	cmd := program(t, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(lines), &stdout, &stderr
	_ = cmd.Run() // the status is the result
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

func TestTestWriter(t *testing.T) {
	for _, test := range []struct {
		args, lines, out string
		status           int
	}{
		{"", "prepare set=s\nfreeze\nthaw\npost\n", "ok {\"writer\":\"test\",\"set\":\"s\"}\nok\nok\nok\n", 0},
		{"--inactive", "prepare\n", "inactive told to be\n", 0},
		{"--fail-at freeze,post", "freeze\nthaw\npost\n", "error told to fail at freeze\nok\nerror told to fail at post\n", 0},
		{"--lie-at freeze", "freeze\nthaw\n", "ok\nlost told to lie: it did not hold\n", 0},
		{"--garbage-at abort", "abort\n", "maybe\n", 0},
		{"--twice-at thaw", "thaw\n", "ok\nok\n", 0},
		{"--exit-at thaw", "freeze\nthaw\n", "ok\n", 1},
		{"--exit-at hold", "freeze\nthaw\n", "ok\n", 1}, // however soon the thaw comes
		{"--delay 20ms --delay-at freeze", "freeze\n", "ok\n", 0},
		{"--fail-at lunch", "freeze\n", "", 1},
		{"", "lunch\n", "", 1},
	} {
		out, errs, status := talk(t, test.lines, append([]string{"test"}, strings.Fields(test.args)...)...)
		if out != test.out || status != test.status {
			t.Errorf("test %s: said %q, status %d, want %q, %d; %s", test.args, out, status, test.out, test.status, errs)
		}
	}
}

func TestHang(t *testing.T) {
	cmd := program(t, "test", "--hang-at", "freeze")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "freeze\n"); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	time.Sleep(300 * time.Millisecond)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(100 * time.Millisecond)
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("end of file or SIGTERM ended it: %v", err)
	}
	_ = cmd.Wait()
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{"no-such-recipe"}, {"test", "--no-such-flag"}, {"test", "extra"}, {"postgresql", "--dsn", "a", "--service", "b"}, {"mariadb", "--lock", "none"},
		{"redis", "extra"}, {"mongodb", "--user", "u"}, {"journald", "--namespace", "a/b"}, {"redis", "--user", "u"}, {"sqlite"}} {
		if _, errs, status := talk(t, "", args...); status != exitUsage || errs == "" {
			t.Errorf("%v: status %d, %q", args, status, errs)
		}
	}
	for _, name := range []string{"journald", "mariadb", "mongodb", "mysql", "postgresql", "redis", "sqlite", "test"} {
		if out, _, status := talk(t, "", "--help"); status != 0 || !strings.Contains(out, "\n  "+name+" ") {
			t.Errorf("--help does not have %s: status %d, %q", name, status, out)
		}
		if out, _, status := talk(t, "", name, "--help"); status != 0 || !strings.Contains(out, "Usage:\n  fermata-writer "+name) {
			t.Errorf("%s --help: status %d, %q", name, status, out)
		}
	}
}

func TestSIGTERM(t *testing.T) {
	cmd := program(t, "test")
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
	if _, err := fmt.Fprintln(in, "freeze"); err != nil {
		t.Fatal(err)
	}
	if said, err := bufio.NewReader(out).ReadString('\n'); said != "ok\n" {
		t.Errorf("%q, %v", said, err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// A bad connection string is said in the session, not by a crash.
func TestPostgreSQLRefusal(t *testing.T) {
	cmd := program(t, "postgresql", "--dsn", "port=many")
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
	if _, err := fmt.Fprintln(in, "prepare set=1"); err != nil {
		t.Fatal(err)
	}
	said, err := bufio.NewReader(out).ReadString('\n')
	if !strings.HasPrefix(said, "error bad connection string: ") {
		t.Errorf("%q, %v", said, err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// What a killed recipe holds is free at once.
func TestSQLiteKilled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	first := startSession(t, "sqlite", path)
	first.ask("prepare dry-run=true", "ok ")
	first.ask("freeze", `ok {"databases":[{`)
	second := startSession(t, "sqlite", "--pattern", path+"*", path)
	second.ask("prepare dry-run=true", "ok ")
	second.ask("freeze timeout-ms=100", "error cannot hold "+path+": another program has it locked")
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait()
	second.ask("freeze", "ok ")
	second.ask("thaw", "ok")
}

// session is a running recipe.
type session struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startSession(t *testing.T, args ...string) *session {
	t.Helper()
	s := &session{t: t, cmd: program(t, args...)}
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.in.Close(); _ = s.cmd.Wait() })
	return s
}

// ask sends a request and fails unless the answer begins so.
func (s *session) ask(request, want string) {
	s.t.Helper()
	if _, err := fmt.Fprintln(s.in, request); err != nil {
		s.t.Fatal(err)
	}
	if said, err := s.out.ReadString('\n'); err != nil || !strings.HasPrefix(said, want) {
		s.t.Errorf("%s: %q, %v, want %q", request, said, err, want)
	}
}
