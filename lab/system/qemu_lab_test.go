//go:build lab

package system

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// guestAgent: Debian's QEMU guest agent freezes the guest as a hypervisor asks it to, and with it all writers that are declared,
// of which there are two. Only the hypervisor's end of its channel is ours.
func guestAgent(t *testing.T, point string) {
	agent := startAgent(t)

	n := agent.ask("guest-fsfreeze-freeze")
	thawed := false
	t.Cleanup(func() {
		if !thawed {
			agent.try("guest-fsfreeze-thaw")
		}
	})
	if n < 1 || running(t) == "" {
		t.Errorf("%d filesystems are frozen, and the daemon is at %q", n, running(t))
	}
	if out := labtest.Run(t, "pgrep", "-x", "-c", "fermata-writer"); out != "2\n" {
		t.Errorf("%s writers live", strings.TrimSpace(out))
	}
	late := exec.Command("touch", point+"/late")
	if err := late.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- late.Wait() }()
	select {
	case err := <-ended:
		t.Errorf("%s is not frozen: %v", point, err)
	case <-time.After(500 * time.Millisecond):
	}
	if got := agent.ask("guest-fsfreeze-thaw"); got != n {
		t.Errorf("%d filesystems were thawed of %d\n%s", got, n, journal(t))
	}
	thawed = true
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if now := running(t); now != "" {
		t.Errorf("the daemon is still at %s", now)
	}

	// The hypervisor hears of a hold that was broken, and of one that could not be had: then nothing is frozen.
	agent.ask("guest-fsfreeze-freeze")
	thawed = false
	labtest.Run(t, "pkill", "-KILL", "-x", "fermata-writer")
	if _, err := agent.try("guest-fsfreeze-thaw"); err == nil || !strings.Contains(err.Error(), "status 4") {
		t.Errorf("a broken hold: %v", err)
	}
	thawed = true
	configure(t, map[string]string{"writers.d/w.yaml": "name: w\nsession: [fermata-writer, test, --fail-at, freeze]\n"})
	if _, err := agent.try("guest-fsfreeze-freeze"); err == nil || !strings.Contains(err.Error(), "status 1") {
		t.Errorf("no hold: %v", err)
	}
	labtest.Run(t, "touch", point+"/not-frozen")
}

// agent is the hypervisor's end of the channel.
type agent struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func startAgent(t *testing.T) *agent {
	t.Helper()
	const socket = "/run/qga.sock"
	c := exec.Command("/usr/sbin/qemu-ga", "-m", "unix-listen", "-p", socket, "-f", "/run/qga.pid", "-t", "/run",
		"-F/usr/libexec/fermata/qemu-fsfreeze-hook")
	c.Stdout, c.Stderr = os.Stderr, os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t}
	t.Cleanup(func() {
		if a.conn != nil {
			a.conn.Close()
		}
		c.Process.Kill()
		c.Wait()
		os.Remove(socket)
		os.Remove("/run/qga.pid")
	})
	eventually(t, "the guest agent listens", func() bool {
		var err error
		a.conn, err = net.Dial("unix", socket)
		return err == nil
	})
	a.in = bufio.NewReader(a.conn)
	return a
}

// try gives a command, whose answer is a number.
func (a *agent) try(command string) (int, error) {
	a.t.Helper()
	a.conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := fmt.Fprintf(a.conn, "{\"execute\":%q}\n", command); err != nil {
		a.t.Fatal(err)
	}
	line, err := a.in.ReadString('\n')
	if err != nil {
		a.t.Fatal(err)
	}
	var answer struct {
		Return int
		Error  *struct{ Desc string }
	}
	if err := json.Unmarshal([]byte(line), &answer); err != nil {
		a.t.Fatalf("cannot read %q: %v", line, err)
	}
	if answer.Error != nil {
		return 0, fmt.Errorf("%s", answer.Error.Desc)
	}
	return answer.Return, nil
}

func (a *agent) ask(command string) int {
	a.t.Helper()
	n, err := a.try(command)
	if err != nil {
		a.t.Fatalf("%s: %v\n%s", command, err, journal(a.t))
	}
	return n
}
