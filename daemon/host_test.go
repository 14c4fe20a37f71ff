package daemon

import (
	"os"
	"os/exec"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Who uses a mount for a moment keeps nobody from unmounting it; who goes on does, and an error of another kind is one at once.
func TestWhileBusy(t *testing.T) {
	for _, test := range []struct {
		name  string
		busy  time.Duration
		then  error
		want  error
		tries int
	}{
		{name: "free", tries: 1},
		{name: "for a moment", busy: 50 * time.Millisecond, tries: 4},
		{name: "for good", busy: time.Hour, want: unix.EBUSY, tries: 52},
		{name: "not mounted", then: unix.EINVAL, want: unix.EINVAL, tries: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, tries := time.Now(), 0
				err := whileBusy(time.Second, func() error {
					tries++
					if time.Since(begin) < test.busy {
						return unix.EBUSY
					}
					return test.then
				})
				if err != test.want || tries != test.tries {
					t.Errorf("%v after %d tries, want %v after %d", err, tries, test.want, test.tries)
				}
			})
		})
	}
}

// A process is known by its number and by when it began, as long as it runs.
func TestStarted(t *testing.T) {
	c := exec.Command("cat")
	in, err := c.StdinPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ours, err := System{}.Started(os.Getpid())
	child, childErr := System{}.Started(c.Process.Pid)
	if err != nil || childErr != nil || ours == 0 || child < ours {
		t.Errorf("this one %d, %v; its child %d, %v", ours, err, child, childErr)
	}
	in.Close()
	for end := time.Now().Add(10 * time.Second); child != 0; time.Sleep(time.Millisecond) { // it has ended, and nobody has asked how
		if child, err = (System{}).Started(c.Process.Pid); err != nil || time.Now().After(end) {
			t.Fatalf("after its end: %d, %v", child, err)
		}
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	if child, err := (System{}).Started(c.Process.Pid); child != 0 || err != nil {
		t.Errorf("gone: %d, %v", child, err)
	}
}
