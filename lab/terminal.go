package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// terminalSize is the size of the lab's own terminal, or zeros if it has none.
func terminalSize() (rows, cols uint16) {
	size, err := unix.IoctlGetWinsize(int(os.Stdin.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return size.Row, size.Col
}

// connectTerminal connects the lab's terminal with the guest's: every key goes
// there, ^C too. The lab's terminal is as it was after restore.
func (p *machineProcess) connectTerminal() (restore func()) {
	cooked := makeRaw(int(os.Stdin.Fd()))
	go io.Copy(p.terminal, os.Stdin)
	printed := make(chan struct{})
	go func() {
		io.Copy(os.Stdout, p.terminal)
		close(printed)
	}()
	return func() {
		<-printed // the guest is gone, and with it the other end
		cooked()
	}
}

// makeRaw sets a terminal as cfmakeraw(3) does; what is no terminal it leaves
// alone.
func makeRaw(fd int) (restore func()) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return func() {}
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return func() {}
	}
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, old) }
}
