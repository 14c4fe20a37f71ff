// Command fermata-guard thaws and resumes what fermatad holds when fermatad dies, stops, or takes too long. It is started
// by its socket, in a unit of its own, so that nothing that happens to fermatad happens to it.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/fsfreeze"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/systemd"
)

func main() {
	systemd.Undisturbed()
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "fermata-guard:", err)
		os.Exit(1)
	}
}

func serve() error {
	runtime.GOMAXPROCS(max(4, runtime.NumCPU()))
	// First: what is read in to be locked may lie on a device that is suspended.
	left, leftErr := releaseLeft()
	if err := fsfreeze.PinMemory(); err != nil {
		return err
	}
	flushErr := waitForNoIO()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	control, err := dm.Open()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if leftErr != nil || len(left.Outcomes) > 0 || !left.OK() {
		log.Warn("released what a dead daemon had left", "outcomes", left.Outcomes, "problems", left.Problems, "error", leftErr)
	}
	if flushErr != nil {
		log.Warn("memory may have to wait for disks", "error", flushErr)
	}
	listener, err := listen()
	if err != nil {
		return err
	}
	s := guard.Server{
		Resume: func(dev uint64) (func() error, error) { return resume(control, dm.Dev(dev)) },
		Notes:  guard.Notes,
		Log:    log,
	}
	if err := systemd.Ready("watching"); err != nil {
		return err
	}
	return s.Serve(ctx, listener)
}

// waitForNoIO keeps the kernel from waiting for a disk, which may be suspended, when it has to find memory for this process
// (PR_SET_IO_FLUSHER, Linux 5.6). Nothing is started that would inherit it.
func waitForNoIO() error {
	if _, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0, 0); errno != 0 {
		return fmt.Errorf("cannot set PR_SET_IO_FLUSHER: %w", errno)
	}
	return nil
}

// resume prepares the release of a device that exists.
func resume(control *dm.Control, dev dm.Dev) (func() error, error) {
	if _, err := control.Info(dm.ByDev(dev)); err != nil {
		return nil, err
	}
	return control.PrepareRelease(dev), nil
}

// listen takes the socket from systemd, or makes it.
func listen() (*net.UnixListener, error) {
	listeners, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("cannot take the socket from systemd: %w", err)
	}
	for _, l := range listeners {
		if u, ok := l.(*net.UnixListener); ok {
			return u, nil
		}
	}
	if err := os.MkdirAll("/run/fermata", 0o711); err != nil {
		return nil, err
	}
	if err := os.Remove(guard.Socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	return net.ListenUnix("unixpacket", &net.UnixAddr{Name: guard.Socket, Net: "unixpacket"})
}
