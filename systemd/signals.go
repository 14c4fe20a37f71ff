package systemd

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// Undisturbed keeps SIGHUP and SIGPIPE (a log that nobody reads any more) from ending the process: to systemd both are clean ends,
// after which on-failure does not start it again. They are caught, not ignored: programs that it starts have them as usual.
func Undisturbed() {
	signal.Notify(make(chan os.Signal, 1), unix.SIGHUP, unix.SIGPIPE)
}
