package main

import (
	"bufio"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// A kernel that is not ready for the signal is spared, one that is gets it again and again.
func TestPulse(t *testing.T) {
	deaf := exec.Command("sleep", "60")
	hears := exec.Command("sh", "-c", `trap 'echo tick' ALRM; echo ready; while :; do sleep 0.01; done`)
	out, err := hears.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*exec.Cmd{deaf, hears} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go pulse(c.Process.Pid, ended)
		defer func() {
			close(ended)
			if err := c.Process.Kill(); err != nil {
				t.Error(err)
			}
			c.Wait()
		}()
	}
	lines := bufio.NewScanner(out)
	for n := 0; n < 3; {
		if !lines.Scan() {
			t.Fatalf("it ended: %v", lines.Err())
		}
		if lines.Text() == "tick" {
			n++
		}
	}
	if pid, err := unix.Wait4(deaf.Process.Pid, nil, unix.WNOHANG, nil); pid != 0 || err != nil {
		t.Errorf("a process without a handler was killed: %d, %v", pid, err)
	}
}
