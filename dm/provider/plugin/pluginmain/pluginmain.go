// Package pluginmain is the plug-in's side of the protocol: an author writes a Plugin, and main calls Main. The plug-ins
// that ship, fermata-provider-btrfs and fermata-provider-array, are examples to copy.
//
// A process serves either one set or what belongs to no set. Nothing that has to outlive it may be kept in it: Abort,
// Snapshots and Delete may come to a process that has seen nothing of the set. What must not outlive it (a lock, an
// array's consistency group) has to be let go in Close, and by its death.
//
// Between PreCommit and PostCommit filesystems are frozen, maybe all of them, and devices are suspended. There a plug-in
// must not run programs, write files or logs, look up paths, or wait for anything that might: it opens what it needs in
// Prepare. Main locks the process's memory before, because a page of its own program may lie on such a device.
package pluginmain

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// Plugin is what every plug-in must be able to do; see package provider for what the methods mean. Calls come one at a
// time. A context ends a little before Fermata stops waiting, and when Fermata has gone.
type Plugin interface {
	Hello() protocol.Greeting
	// Claim takes a volume, or says in an error why not.
	Claim(ctx context.Context, v protocol.Volume) (protocol.Claimed, error)
	// Admit checks that there is room for all of vols together; protocol.NoRoom if not.
	Admit(ctx context.Context, vols []protocol.Volume) error
	// Prepare arms. It returns which of the volumes Fermata is to suspend. What it leaves behind when it fails, or is
	// killed, Abort removes.
	Prepare(ctx context.Context, set protocol.Set, vols []protocol.Volume) (suspend []string, err error)
	// Finalize makes the captured snapshots last, and finished.
	Finalize(ctx context.Context, f protocol.Final) ([]protocol.Snapshot, error)
	// Commit captures all volumes of the set, at one instant.
	Commit(ctx context.Context) error
	// Abort removes every snapshot of a set. It may come at any time, and twice.
	Abort(ctx context.Context, set protocol.Set) error

	Snapshots(ctx context.Context) ([]protocol.Snapshot, error)
	Mark(ctx context.Context, s protocol.Snapshot) error
	Delete(ctx context.Context, s protocol.Snapshot) error
	Expose(ctx context.Context, s protocol.Snapshot) (device string, err error)
	Hide(ctx context.Context, s protocol.Snapshot) error

	Steps
}

// Steps are those that not every plug-in needs; embed Nothing for those that do nothing.
type Steps interface {
	Lock(ctx context.Context) error
	PreCommit(ctx context.Context) error
	PostCommit(ctx context.Context) error
	Unlock(ctx context.Context) error
	Verify(ctx context.Context) error
	// Close lets go of everything: Fermata has gone, or needs the process no more.
	Close() error
}

// Nothing is Steps that do nothing.
type Nothing struct{}

func (Nothing) Lock(context.Context) error       { return nil }
func (Nothing) PreCommit(context.Context) error  { return nil }
func (Nothing) PostCommit(context.Context) error { return nil }
func (Nothing) Unlock(context.Context) error     { return nil }
func (Nothing) Verify(context.Context) error     { return nil }
func (Nothing) Close() error                     { return nil }

// What a plug-in may be able to do. Its greeting has the capability, and it has the interface.
type (
	Copier interface {
		Copy(ctx context.Context, s protocol.Snapshot) (protocol.Snapshot, error)
	}
	Usager interface {
		Usage(ctx context.Context, s protocol.Snapshot) (protocol.Used, error)
	}
	Resizer interface {
		Resize(ctx context.Context, s protocol.Snapshot, size uint64) error
	}
	Pooler interface {
		Pools(ctx context.Context) ([]protocol.Pool, error)
	}
)

// Around is called for each request with what makes its answer. What it returns is written, and may be anything: it is
// how a plug-in for tests misbehaves.
type Around func(q protocol.Request, answer func() []byte) []byte

// Main serves standard input and output, and returns the exit status. around may be nil.
func Main(p Plugin, around Around) int {
	if err := Serve(os.Stdin, os.Stdout, pinned{p}, around); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Serve answers the requests that come on in until that ends; then it closes the plug-in. A line that is no request is an
// error and ends it.
func Serve(in io.Reader, out io.Writer, p Plugin, around Around) (err error) {
	ctx, gone := context.WithCancel(context.Background())
	defer gone()
	defer func() { err = errors.Join(err, p.Close()) }()
	lines, ended := make(chan []byte), make(chan error, 1)
	go func() {
		ended <- read(ctx, in, lines)
		gone()
	}()
	for {
		select {
		case line := <-lines:
			q, err := protocol.ParseRequest(line)
			if err != nil {
				return fmt.Errorf("cannot read a request: %w", err)
			}
			answer := func() []byte { return answer(ctx, p, q) }
			var b []byte
			if around != nil {
				b = around(q, answer)
			} else {
				b = answer()
			}
			if _, err := out.Write(b); err != nil {
				return fmt.Errorf("cannot answer: %w", err)
			}
		case err := <-ended:
			return err
		}
	}
}

// read sends each line, to the end of in. A line that ends without a newline was cut off: Fermata has gone.
func read(ctx context.Context, in io.Reader, lines chan<- []byte) error {
	r := bufio.NewScanner(in)
	r.Buffer(make([]byte, 64<<10), protocol.MaxLine)
	r.Split(func(data []byte, _ bool) (int, []byte, error) {
		if end := bytes.IndexByte(data, '\n') + 1; end > 0 {
			return end, data[:end], nil
		}
		return 0, nil, nil
	})
	for r.Scan() {
		select {
		case lines <- bytes.Clone(r.Bytes()):
		case <-ctx.Done():
			return nil
		}
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("cannot read requests: %w", err)
	}
	return nil
}

// answer works on one request and returns the line that answers it.
func answer(ctx context.Context, p Plugin, q protocol.Request) []byte {
	limit := time.Duration(q.TimeoutMS) * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, limit-limit/10)
	defer cancel()
	a := protocol.Answer{Fermata: protocol.Version, ID: q.ID}
	r, err := call(ctx, p, q.Method, q.Params)
	var e *protocol.Error
	switch {
	case err == nil:
		a.Result = &r
	case errors.As(err, &e):
		a.Error = &protocol.Error{Code: e.Code, Message: err.Error()}
	default:
		a.Error = &protocol.Error{Code: protocol.Failed, Message: err.Error()}
	}
	line, err := protocol.Line(a)
	if err != nil {
		a.Result, a.Error = nil, &protocol.Error{Code: protocol.Failed, Message: err.Error()}
		line, _ = protocol.Line(a) // two short texts
	}
	return line
}

// call does what a request asks for.
func call(ctx context.Context, p Plugin, m protocol.Method, q protocol.Params) (r protocol.Result, err error) {
	if err := complete(m, q); err != nil {
		return r, err
	}
	switch m {
	case protocol.Hello:
		g := p.Hello()
		r.Hello = &g
	case protocol.Claim:
		var c protocol.Claimed
		c, err = p.Claim(ctx, *q.Volume)
		r.Claim = &c
	case protocol.Admit:
		err = p.Admit(ctx, q.Volumes)
	case protocol.Prepare:
		r.Suspend, err = p.Prepare(ctx, *q.Set, q.Volumes)
	case protocol.Lock:
		err = p.Lock(ctx)
	case protocol.PreCommit:
		err = p.PreCommit(ctx)
	case protocol.Commit:
		err = p.Commit(ctx)
	case protocol.PostCommit:
		err = p.PostCommit(ctx)
	case protocol.Unlock:
		err = p.Unlock(ctx)
	case protocol.Verify:
		err = p.Verify(ctx)
	case protocol.Finalize:
		r.Snapshots, err = p.Finalize(ctx, *q.Final)
	case protocol.Abort:
		err = p.Abort(ctx, *q.Set)
	case protocol.Snapshots:
		r.Snapshots, err = p.Snapshots(ctx)
	case protocol.Mark:
		err = each(ctx, q.Snapshots, p.Mark)
	case protocol.Delete:
		err = each(ctx, q.Snapshots, p.Delete)
	case protocol.Expose:
		r.Device, err = p.Expose(ctx, *q.Snapshot)
	case protocol.Hide:
		err = p.Hide(ctx, *q.Snapshot)
	default:
		return extra(ctx, p, m, q)
	}
	return r, err
}

// extra does what only some plug-ins can.
func extra(ctx context.Context, p Plugin, m protocol.Method, q protocol.Params) (r protocol.Result, err error) {
	if x, ok := p.(pinned); ok {
		p = x.Plugin
	}
	copier, copies := p.(Copier)
	usager, counts := p.(Usager)
	resizer, resizes := p.(Resizer)
	pooler, pools := p.(Pooler)
	switch {
	case m == protocol.Copy && copies:
		var s protocol.Snapshot
		s, err = copier.Copy(ctx, *q.Snapshot)
		r.Snapshot = &s
	case m == protocol.Usage && counts:
		var u protocol.Used
		u, err = usager.Usage(ctx, *q.Snapshot)
		r.Usage = &u
	case m == protocol.Resize && resizes:
		err = resizer.Resize(ctx, *q.Snapshot, q.Size)
	case m == protocol.Pools && pools:
		r.Pools, err = pooler.Pools(ctx)
	default:
		err = protocol.Errorf(protocol.Unsupported, "unknown method %q", m)
	}
	return r, err
}

// complete is nil if a request has what its method needs.
func complete(m protocol.Method, q protocol.Params) error {
	missing := false
	switch m {
	case protocol.Hello:
		for _, v := range q.Versions {
			if v == protocol.Version {
				return nil
			}
		}
		return protocol.Errorf(protocol.Unsupported, "version %d of the protocol is spoken here, not one of %v", protocol.Version, q.Versions)
	case protocol.Claim:
		missing = q.Volume == nil
	case protocol.Prepare, protocol.Abort:
		missing = q.Set == nil
	case protocol.Finalize:
		missing = q.Final == nil
	case protocol.Expose, protocol.Hide, protocol.Copy, protocol.Usage, protocol.Resize:
		missing = q.Snapshot == nil
	}
	if missing {
		return protocol.Errorf(protocol.Failed, "the request lacks a parameter")
	}
	return nil
}

func each(ctx context.Context, snaps []protocol.Snapshot, do func(context.Context, protocol.Snapshot) error) error {
	var errs []error
	for _, s := range snaps {
		errs = append(errs, do(ctx, s))
	}
	return errors.Join(errs...)
}

// pinned keeps the process in memory from Lock on. Without the right to do so it goes on, at its own risk, which is that of
// any program whose file lies on a volume of the set.
type pinned struct{ Plugin }

func (p pinned) Lock(ctx context.Context) error {
	_ = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE)
	return p.Plugin.Lock(ctx)
}
