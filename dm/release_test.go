package dm

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// fakeCall answers with one error after the other, then with none.
type fakeCall struct {
	answers   []error
	suspended bool
	done      int
}

func (f *fakeCall) Suspended() bool { return f.suspended }

func (f *fakeCall) Do() error {
	f.done++
	if f.done > len(f.answers) {
		return nil
	}
	return f.answers[f.done-1]
}

func TestRelease(t *testing.T) {
	refused := &Error{Op: "resume", Device: "vg-home", Errno: unix.EINVAL}
	failed := &Error{Op: "resume", Device: "vg-home", Errno: unix.ENOMEM}
	for _, x := range []struct {
		name    string
		info    fakeCall
		answers []error
		want    error
		resumes int
	}{
		{"not suspended", fakeCall{}, nil, unix.EINVAL, 0},
		{"no such device", fakeCall{answers: []error{unix.ENXIO}, suspended: true}, nil, unix.ENXIO, 0},
		{"suspended", fakeCall{suspended: true}, nil, nil, 1},
		{"with a table that the kernel refuses", fakeCall{suspended: true}, []error{refused}, nil, 2},
		{"refused for good", fakeCall{suspended: true}, []error{refused, refused}, ErrNotResumed, 2},
		{"failed", fakeCall{suspended: true}, []error{failed}, unix.ENOMEM, 1},
		{"refused, then failed", fakeCall{suspended: true}, []error{refused, failed}, unix.ENOMEM, 2},
	} {
		resume := fakeCall{answers: x.answers}
		err := release(&x.info, &resume)
		if !errors.Is(err, x.want) || resume.done != x.resumes {
			t.Errorf("%s: %v after %d resumes, want %v after %d", x.name, err, resume.done, x.want, x.resumes)
		}
		if x.info.suspended && errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v says that it was not suspended", x.name, err)
		}
	}
}
