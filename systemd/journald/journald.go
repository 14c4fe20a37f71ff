// Package journald logs to systemd's journal with fields that can be searched for (systemd.journal-fields(7)):
//
//	journalctl FERMATA_SET=20261120T114653_7f3a
//	journalctl -u fermatad -x
//
// The message is the line that would stand on standard error; FERMATA_SET, FERMATA_POLICY, FERMATA_PHASE, FERMATA_WRITER,
// FERMATA_POOL and FERMATA_CLASS are taken from its attributes; MESSAGE_ID is that of the message, if the catalogue has it.
package journald

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/journal"
)

// fields are the attributes that become fields of the journal's.
var fields = map[string]string{
	"set": "FERMATA_SET", "FERMATA_SET": "FERMATA_SET", "policy": "FERMATA_POLICY", "phase": "FERMATA_PHASE", "writer": "FERMATA_WRITER",
	"pool": "FERMATA_POOL", "class": "FERMATA_CLASS",
}

// New is a handler for a daemon whose standard error is w: lines of text, or, where that goes to the journal, entries of it.
func New(w io.Writer, o *slog.HandlerOptions) slog.Handler {
	if is, err := journal.StderrIsJournalStream(); err != nil || !is {
		return slog.NewTextHandler(w, o)
	}
	return newHandler(o, journal.Send, w)
}

type send func(message string, priority journal.Priority, fields map[string]string) error

func newHandler(o *slog.HandlerOptions, to send, otherwise io.Writer) *handler {
	line := &line{}
	return &handler{line: line, text: slog.NewTextHandler(&line.text, o), send: to, otherwise: otherwise}
}

// line is the text of one entry, which the handlers that are made of one share.
type line struct {
	mu   sync.Mutex
	text bytes.Buffer
}

type handler struct {
	line      *line
	text      slog.Handler // writes to line
	fields    []slog.Attr  // of all entries
	grouped   bool         // attributes are named within a group, and are no fields
	send      send
	otherwise io.Writer // takes what the journal does not
}

func (h *handler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	n := *h
	n.text = h.text.WithAttrs(attrs)
	if !h.grouped {
		n.fields = append(h.fields[:len(h.fields):len(h.fields)], attrs...)
	}
	return &n
}

func (h *handler) WithGroup(name string) slog.Handler {
	n := *h
	n.text, n.grouped = h.text.WithGroup(name), h.grouped || name != ""
	return &n
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	text, err := h.render(ctx, r)
	if err != nil {
		return err
	}
	entry := map[string]string{"SYSLOG_IDENTIFIER": "fermatad"}
	if id, ok := Messages[r.Message]; ok {
		entry["MESSAGE_ID"] = id
	}
	add := func(a slog.Attr) bool {
		if name, ok := fields[a.Key]; ok {
			entry[name] = a.Value.String()
		}
		return true
	}
	for _, a := range h.fields {
		add(a)
	}
	if !h.grouped {
		r.Attrs(add)
	}
	if err := h.send(text, priority(r.Level), entry); err != nil {
		_, err = io.WriteString(h.otherwise, text+"\n")
		return err
	}
	return nil
}

func (h *handler) render(ctx context.Context, r slog.Record) (string, error) {
	h.line.mu.Lock()
	defer h.line.mu.Unlock()
	h.line.text.Reset()
	err := h.text.Handle(ctx, r)
	return strings.TrimSuffix(h.line.text.String(), "\n"), err
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
