package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fermata-project/fermata/lab/inside"
)

// streams follow the files in which a guest answers. They are opened before it
// starts, so that they can still be read when its directory is gone.
type streams struct {
	stdout, stderr *tail
	status, power  *os.File
	console        *os.File
}

// tail copies what is added to a file.
type tail struct {
	from *os.File
	to   io.Writer
}

func openStreams(g guest) (*streams, error) {
	var files []*os.File
	for _, name := range []string{"root/lab/" + inside.StdoutFile, "root/lab/" + inside.StderrFile,
		"root/lab/" + inside.StatusFile, consoleFile, "root/lab/" + inside.CutFile} {
		f, err := os.Open(g.path(name))
		if err != nil {
			return nil, fmt.Errorf("cannot follow the guest: %w", err)
		}
		files = append(files, f)
	}
	return &streams{&tail{files[0], os.Stdout}, &tail{files[1], os.Stderr}, files[2], files[4], files[3]}, nil
}

func (s *streams) close() {
	for _, f := range []*os.File{s.stdout.from, s.stderr.from, s.status, s.power, s.console} {
		f.Close()
	}
}

// poll passes on what is new, and gives the command's status if it has ended:
// then everything that the command wrote has been passed on. The status is read
// first, because the guest writes it last.
func (s *streams) poll() (*inside.Status, error) {
	status, err := s.readStatus()
	if err != nil {
		return nil, err
	}
	for _, t := range []*tail{s.stdout, s.stderr} {
		if _, err := io.Copy(t.to, t.from); err != nil {
			return nil, fmt.Errorf("cannot pass the command's output on: %w", err)
		}
	}
	return status, nil
}

// cut reports whether the guest asks for its power to be cut.
func (s *streams) cut() bool {
	info, err := s.power.Stat()
	return err == nil && info.Size() > 0
}

func (s *streams) readStatus() (*inside.Status, error) {
	buf := make([]byte, 64<<10)
	n, err := s.status.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("cannot read the command's status: %w", err)
	}
	if !bytes.HasSuffix(buf[:n], []byte("\n")) {
		return nil, nil
	}
	status := new(inside.Status)
	if err := json.Unmarshal(buf[:n], status); err != nil {
		return nil, fmt.Errorf("cannot read the command's status: %w", err)
	}
	return status, nil
}

// consoleTail gives the last n lines of what the kernel printed.
func (s *streams) consoleTail(n int) string {
	const limit = 64 << 10
	info, err := s.console.Stat()
	if err != nil {
		return err.Error()
	}
	text, err := io.ReadAll(io.NewSectionReader(s.console, max(0, info.Size()-limit), limit))
	if err != nil {
		return err.Error()
	}
	return lastLines(string(text), n)
}
