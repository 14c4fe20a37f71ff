package daemon

import (
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
