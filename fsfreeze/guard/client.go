package guard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// replyTime bounds how long the daemon waits for an answer of the guard outside the window.
const replyTime = 5 * time.Second

// Armed is a hold that the guard watches. The daemon records what it takes in its cells.
type Armed struct {
	conn    *net.UnixConn
	board   *Board
	handles []*fsfreeze.Handle
	devices []uint64
	own     *reclaim // what this process releases itself if the guard does not
}

// Arm hands a hold to the guard: from now on it releases everything by the deadline, or when this process dies. The
// handles record their freezes on the shared board from then on; DeviceCell gives the cells of the devices. resume prepares
// the release of a device as Server.Resume does: should the guard die, this process releases what the other had begun to.
func Arm(ctx context.Context, socket, set string, deadline time.Duration, handles []*fsfreeze.Handle, devices []uint64, resume func(dev uint64) func() error) (*Armed, error) {
	if len(handles) > MaxFilesystems {
		return nil, fmt.Errorf("cannot guard %d filesystems in one set: %d are possible", len(handles), MaxFilesystems)
	}
	board, err := newBoard(len(devices) + len(handles))
	if err != nil {
		return nil, err
	}
	a := &Armed{board: board, devices: devices}
	if err := a.arm(ctx, socket, set, deadline, handles, devices); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot arm the guard: %w", err), a.drop())
	}
	for i, h := range handles {
		h.Share(board.Cell(len(devices) + i))
	}
	a.handles, a.own = handles, newReclaim(a, resume)
	return a, nil
}

func (a *Armed) arm(ctx context.Context, socket, set string, deadline time.Duration, handles []*fsfreeze.Handle, devices []uint64) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixpacket", socket)
	if err != nil {
		return fmt.Errorf("%w (is fermata-guard.socket started?)", err)
	}
	a.conn = conn.(*net.UnixConn)
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return err
	}
	p := plan{Set: set, Deadline: ts.Nano() + int64(deadline), Devices: devices}
	fds := []int{a.board.fd}
	for _, h := range handles {
		p.Filesystems = append(p.Filesystems, h.FS.Point())
		fds = append(fds, h.Fd())
	}
	if err := send(a.conn, p, fds...); err != nil {
		return err
	}
	var r answer
	if err := a.read(&r); err != nil {
		return err
	}
	if !r.Armed {
		return fmt.Errorf("the guard refused: %s", r.Error)
	}
	return nil
}

func (a *Armed) read(r *answer) error {
	if err := a.conn.SetReadDeadline(time.Now().Add(replyTime)); err != nil {
		return err
	}
	_, err := receive(a.conn, r, 0)
	return err
}

// DeviceCell is the cell of the i-th device.
func (a *Armed) DeviceCell(i int) *fsfreeze.Cell { return a.board.Cell(i) }

// Close ends the hold, when everything has been released: it reports why the hold had ended before (Closed: by this
// call, in order), and what the guard released. If the guard is dead or does not answer, what it has not released is
// released here; the error then says so, and the report what.
func (a *Armed) Close() (Reason, Report, error) {
	a.board.End(Closed)
	why := a.board.Ended()
	var r answer
	err := send(a.conn, done{true})
	if err == nil {
		err = a.read(&r)
	}
	if err == nil {
		return why, r.Report, a.drop()
	}
	err = fmt.Errorf("cannot hear from the guard: %w", err)
	a.own.start()
	report, over := a.own.wait(reclaimTime)
	if why != Closed {
		report.Reason = why.String()
	}
	if len(report.Released) > 0 {
		err = fmt.Errorf("%w; released in its place: %v", err, report.Released)
	}
	if over {
		return why, report, errors.Join(err, a.drop())
	}
	// The end of the connection would tell the guard that nothing of this process is in the kernel any more.
	go func() {
		a.own.wait(-1)
		_ = a.drop() // of a hold that was told of long ago
	}()
	return why, report, err
}

// Fired reports whether the hold has been ended by somebody else.
func (a *Armed) Fired() bool { return a.board.Ended() != Open }

// Expire ends the hold for the deadline, and releases what the guard has not begun to release, or has and died. It waits for
// what can be released, but not longer than limit, unless that is negative.
func (a *Armed) Expire(limit time.Duration) {
	a.board.End(Deadline)
	a.own.start()
	a.own.wait(limit)
}

func (a *Armed) drop() error {
	var err error
	if a.conn != nil {
		err = a.conn.Close()
	}
	err = errors.Join(err, a.board.Close())
	if r := a.board.Ended(); r != Open && r != Closed {
		return err // a thread may still be in the kernel, and looks at its cell when it comes back: the board stays mapped
	}
	for _, h := range a.handles {
		h.Share(new(fsfreeze.Cell))
	}
	return errors.Join(err, a.board.Unmap())
}
