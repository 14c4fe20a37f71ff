package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

const disturbed = "FERMATA_TEST_DISTURBED"

// TestUndisturbed is a process of its own, which is sent SIGHUP and writes a log that nobody reads.
func TestUndisturbed(t *testing.T) {
	if os.Getenv(disturbed) != "" {
		disturb()
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestUndisturbed$")
	cmd.Env = append(os.Environ(), disturbed+"=1")
	cmd.Stderr = w
	if out, err := cmd.Output(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func disturb() {
	Undisturbed()
	fail := func(a ...any) {
		fmt.Println(a...)
		os.Exit(1)
	}
	if err := unix.Kill(os.Getpid(), unix.SIGHUP); err != nil {
		fail(err)
	}
	if _, err := os.Stderr.WriteString("x"); err == nil {
		fail("somebody reads")
	}
	for _, s := range []string{"HUP", "PIPE"} { // a shell that had them ignored from the start could not be ended by them
		cmd := exec.Command("/bin/sh", "-c", "kill -s "+s+" $$; echo survived")
		if out, err := cmd.Output(); err == nil {
			fail("a program that is started ignores", s, string(out))
		}
	}
}
