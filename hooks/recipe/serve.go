// Package recipe serves the session form of the exec writer (see package hooks)
// for recipes: writers that know one application.
//
// A recipe holds one real session of its application. Everything that it holds
// has to end with that session, so that the death of the recipe, or of the
// daemon that started it, lets the application go. Between the answer to freeze
// and the next request a recipe writes nothing, neither to a disk nor to a log:
// the filesystem under it may be frozen, and the thaw must not wait for it.
package recipe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fermata-project/fermata/hooks"
)

// Recipe is one application's part. Calls come one at a time, in the order of a
// set's phases; ctx ends shortly before Fermata stops waiting for the answer, and
// when Fermata lets go. Thaw and Abort may come whatever happened before.
type Recipe interface {
	// Prepare gets ready. An error made by Inactive says that the application
	// does not run; a refusal names what is missing and how to give it.
	Prepare(ctx context.Context, r hooks.Request) (map[string]any, error)
	// Freeze holds.
	Freeze(ctx context.Context, r hooks.Request) (map[string]any, error)
	// Thaw lets go. An error that wraps hooks.ErrHoldLost says that the hold did
	// not last, or that this cannot be proved.
	Thaw(ctx context.Context, r hooks.Request) (map[string]any, error)
	// Abort undoes what Prepare and Freeze did.
	Abort(ctx context.Context, r hooks.Request) error
	// Post hears the outcome.
	Post(ctx context.Context, r hooks.Request) (map[string]any, error)
	// Close ends the application's session, and with it any hold.
	Close() error
}

// Recoverer is a recipe that can make a captured image one that needs no recovery: see hooks.PhaseRecover. Neither
// this nor the next two follows another call.
type Recoverer interface {
	Recover(ctx context.Context, r hooks.Request) (map[string]any, error)
}

// Verifier is a recipe that can prove that an image is good: see hooks.PhaseVerify.
type Verifier interface {
	Verify(ctx context.Context, r hooks.Request) (map[string]any, error)
}

// Reporter is a recipe that wants to know how a backup went: see hooks.PhaseReport.
type Reporter interface {
	Report(ctx context.Context, r hooks.Request) (map[string]any, error)
}

// inactive is the error that says that an application does not run.
type inactive struct{ cause error }

func (e *inactive) Error() string { return e.cause.Error() }
func (e *inactive) Unwrap() error { return e.cause }

// Inactive marks an error of Prepare as proof that the application does not run.
func Inactive(cause error) error { return &inactive{cause} }

// IsInactive says whether err is such proof.
func IsInactive(err error) bool {
	var e *inactive
	return errors.As(err, &e)
}

// Serve answers the requests that come on in, one after the other, until in
// ends or ctx is done; then it closes the recipe. A request that is being worked
// on is cancelled by that end. The error is nil after an orderly end; a request
// that cannot be read is an error and ends it, too.
func Serve(ctx context.Context, in io.Reader, out io.Writer, r Recipe) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() { err = errors.Join(err, r.Close()) }()
	lines := make(chan string)
	ended := make(chan error, 1)
	go func() {
		defer cancel() // the end of input lets go at once
		ended <- readLines(ctx, in, lines)
	}()
	for {
		select {
		case line := <-lines:
			answer, err := serve(ctx, r, line)
			if err != nil {
				return err
			}
			if ctx.Err() != nil {
				continue // nobody reads it any more
			}
			if _, err := out.Write(answer); err != nil {
				return fmt.Errorf("cannot answer: %w", err)
			}
		case <-ctx.Done():
			select {
			case err := <-ended:
				return err
			default:
				return nil // told to stop; the reader ends with the program
			}
		}
	}
}

// readLines sends each line without its newline, to the end of in.
func readLines(ctx context.Context, in io.Reader, lines chan<- string) error {
	r := bufio.NewReaderSize(in, hooks.MaxLine)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("a request is longer than %d bytes", hooks.MaxLine)
		case err != nil:
			return fmt.Errorf("cannot read requests: %w", err)
		}
		select {
		case lines <- string(line[:len(line)-1]):
		case <-ctx.Done():
			return nil
		}
	}
}

// serve works on one request and returns the line that answers it.
func serve(ctx context.Context, r Recipe, line string) ([]byte, error) {
	request, err := hooks.ParseRequest(line)
	if err != nil {
		return nil, err
	}
	if request.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, Within(request.Timeout))
		defer cancel()
	}
	data, err := call(ctx, r, request)
	answer := hooks.Answer{Data: data}
	if IsInactive(err) && request.Phase == hooks.PhasePrepare {
		answer, err = hooks.Answer{Inactive: true, Text: err.Error()}, nil
	}
	return hooks.FormatAnswer(request.Phase, answer, err), nil
}

// Within is the part of a phase's time limit that a recipe may use, so that its
// own words of what went wrong come before Fermata stops listening.
func Within(limit time.Duration) time.Duration { return limit - limit/10 }

func call(ctx context.Context, r Recipe, request hooks.Request) (map[string]any, error) {
	switch request.Phase {
	case hooks.PhasePrepare:
		return r.Prepare(ctx, request)
	case hooks.PhaseFreeze:
		return r.Freeze(ctx, request)
	case hooks.PhaseThaw:
		return r.Thaw(ctx, request)
	case hooks.PhaseAbort:
		return nil, r.Abort(ctx, request)
	case hooks.PhasePost:
		return r.Post(ctx, request)
	}
	return aside(ctx, r, request)
}

func aside(ctx context.Context, r Recipe, request hooks.Request) (map[string]any, error) {
	if v, ok := r.(Recoverer); ok && request.Phase == hooks.PhaseRecover {
		return v.Recover(ctx, request)
	}
	if v, ok := r.(Verifier); ok && request.Phase == hooks.PhaseVerify {
		return v.Verify(ctx, request)
	}
	if v, ok := r.(Reporter); ok && request.Phase == hooks.PhaseReport {
		return v.Report(ctx, request)
	}
	return nil, fmt.Errorf("this recipe does not know how to %s", request.Phase)
}
