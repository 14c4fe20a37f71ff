package recipe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// fake answers what its table says, and waits for ctx where it says nothing.
type fake struct {
	say    map[hooks.Phase]error
	closed chan struct{}
	seen   chan hooks.Request
}

func (f *fake) phase(ctx context.Context, r hooks.Request) (map[string]any, error) {
	select {
	case f.seen <- r:
	default:
	}
	err, ok := f.say[r.Phase]
	if !ok {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return map[string]any{"phase": r.Phase}, err
}

func (f *fake) Prepare(ctx context.Context, r hooks.Request) (map[string]any, error) {
	return f.phase(ctx, r)
}
func (f *fake) Freeze(ctx context.Context, r hooks.Request) (map[string]any, error) {
	return f.phase(ctx, r)
}
func (f *fake) Thaw(ctx context.Context, r hooks.Request) (map[string]any, error) {
	return f.phase(ctx, r)
}
func (f *fake) Abort(ctx context.Context, r hooks.Request) error {
	_, err := f.phase(ctx, r)
	return err
}
func (f *fake) Post(ctx context.Context, r hooks.Request) (map[string]any, error) {
	return f.phase(ctx, r)
}
func (f *fake) Close() error { close(f.closed); return nil }

// served is a running Serve with its two pipes.
type served struct {
	in   *io.PipeWriter
	out  *bufio.Reader
	done chan error
	*fake
}

func serveFake(ctx context.Context, say map[hooks.Phase]error) *served {
	inRead, in := io.Pipe()
	out, outWrite := io.Pipe()
	s := &served{in: in, out: bufio.NewReader(out), done: make(chan error, 1),
		fake: &fake{say: say, closed: make(chan struct{}), seen: make(chan hooks.Request, 10)}}
	go func() {
		s.done <- Serve(ctx, inRead, outWrite, s.fake)
		_ = outWrite.Close()
	}()
	return s
}

func (s *served) ask(t *testing.T, line string) string {
	t.Helper()
	if _, err := io.WriteString(s.in, line+"\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := s.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(answer, "\n")
}

func (s *served) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.done:
		<-s.closed
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("it does not end")
		return nil
	}
}

func TestServe(t *testing.T) {
	s := serveFake(context.Background(), map[hooks.Phase]error{
		hooks.PhasePrepare: nil,
		hooks.PhaseFreeze:  errors.New("no such lock"),
		hooks.PhaseThaw:    fmt.Errorf("%w: restarted", hooks.ErrHoldLost),
		hooks.PhaseAbort:   nil,
		hooks.PhasePost:    nil,
	})
	for _, dialogue := range [][2]string{
		{"prepare set=1 volumes=/a,/b", `ok {"phase":"prepare"}`},
		{"freeze", "error no such lock"},
		{"thaw", "lost restarted"},
		{"abort", "ok"},
		{"post outcome=ok", `ok {"phase":"post"}`},
	} {
		if got := s.ask(t, dialogue[0]); got != dialogue[1] {
			t.Errorf("%s: %q, want %q", dialogue[0], got, dialogue[1])
		}
	}
	if r := <-s.seen; r.Set != "1" || len(r.Volumes) != 2 {
		t.Errorf("the recipe saw %+v", r)
	}
	_ = s.in.Close()
	if err := s.ended(t); err != nil {
		t.Error(err)
	}
}

func TestServeInactive(t *testing.T) {
	down := Inactive(errors.New("no server"))
	s := serveFake(context.Background(), map[hooks.Phase]error{
		hooks.PhasePrepare: fmt.Errorf("%w at /run", down), hooks.PhaseFreeze: down})
	if got := s.ask(t, "prepare"); got != "inactive no server at /run" {
		t.Errorf("prepare: %q", got)
	}
	if got := s.ask(t, "freeze"); got != "error no server" {
		t.Errorf("freeze: %q", got)
	}
	_ = s.in.Close()
	_ = s.ended(t)
}

// The end of input lets go at once, also in the middle of a phase; so does ctx.
func TestServeEndsInTheMiddle(t *testing.T) {
	for name, end := range map[string]func(*served, context.CancelFunc){
		"end of input": func(s *served, _ context.CancelFunc) { _ = s.in.Close() },
		"signal":       func(_ *served, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			s := serveFake(ctx, nil)
			if _, err := io.WriteString(s.in, "freeze\n"); err != nil {
				t.Fatal(err)
			}
			<-s.seen
			end(s, cancel)
			if err := s.ended(t); err != nil {
				t.Error(err)
			}
		})
	}
}

// A recipe gives up a little before Fermata does.
func TestServeTimeout(t *testing.T) {
	s := serveFake(context.Background(), nil)
	begin := time.Now()
	if got := s.ask(t, "freeze timeout-ms=2000"); got != "error context deadline exceeded" {
		t.Errorf("freeze: %q", got)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %s of 2s", took)
	}
	_ = s.in.Close()
	_ = s.ended(t)
}

func TestServeRefusesBadRequests(t *testing.T) {
	for name, input := range map[string]string{
		"unknown phase":   "rest\n",
		"too long":        "freeze set=" + strings.Repeat("x", hooks.MaxLine) + "\n",
		"cut off":         "freeze",
		"cut off, second": "freeze\nthaw",
	} {
		t.Run(name, func(t *testing.T) {
			s := serveFake(context.Background(), map[hooks.Phase]error{hooks.PhaseFreeze: nil})
			go func() { _, _ = io.Copy(io.Discard, s.out) }()
			go func() { _, _ = io.WriteString(s.in, input); _ = s.in.Close() }()
			if err := s.ended(t); err == nil {
				t.Error("it was accepted")
			}
		})
	}
}
