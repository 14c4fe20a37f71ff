package journald

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
)

// entry is what the journal was sent.
type entry struct {
	message  string
	priority journal.Priority
	fields   map[string]string
}

func TestHandler(t *testing.T) {
	var got []entry
	var text, otherwise bytes.Buffer
	o := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	fail := false
	h := newHandler(o, func(message string, p journal.Priority, fields map[string]string) error {
		if fail {
			return errors.New("nobody takes it")
		}
		got = append(got, entry{message, p, fields})
		return nil
	}, &otherwise)
	write := func(log *slog.Logger) {
		log.Debug("not this")
		log.Info("set deleted", "set", "20261120T114653_7f3a")
		log.With("FERMATA_SET", "one").Error("no set was taken", "policy", "db", "phase", "window", "error", errors.New("two\nlines"))
		log.WithGroup("g").Warn("recovered", "set", "none")
	}
	write(slog.New(slog.NewTextHandler(&text, o)))
	write(slog.New(h))
	lines := strings.SplitAfter(strings.TrimSuffix(text.String(), "\n"), "\n")
	want := []entry{
		{lines[0], journal.PriInfo, map[string]string{"FERMATA_SET": "20261120T114653_7f3a", "MESSAGE_ID": Messages["set deleted"]}},
		{lines[1], journal.PriErr, map[string]string{"FERMATA_SET": "one", "FERMATA_POLICY": "db", "FERMATA_PHASE": "window", "MESSAGE_ID": Messages["no set was taken"]}},
		{lines[2], journal.PriWarning, map[string]string{"MESSAGE_ID": Messages["recovered"]}},
	}
	if len(got) != len(want) {
		t.Fatalf("sent %+v", got)
	}
	for i, w := range want {
		w.fields["SYSLOG_IDENTIFIER"] = "fermatad"
		if g := got[i]; g.message != strings.TrimSuffix(w.message, "\n") || g.priority != w.priority || !maps.Equal(g.fields, w.fields) {
			t.Errorf("sent %+v, not %+v", g, w)
		}
	}
	fail = true
	write(slog.New(h))
	if otherwise.String() != text.String() {
		t.Errorf("what the journal did not take:\n%s", otherwise.String())
	}
}

// A standard error that is not the journal's gets lines.
func TestNew(t *testing.T) {
	t.Setenv("JOURNAL_STREAM", "1:1")
	if _, ok := New(io.Discard, nil).(*slog.TextHandler); !ok {
		t.Error("it goes to the journal")
	}
}

// Each message of the table is in the catalogue, and the other way round; each is one that the daemon logs.
func TestCatalogue(t *testing.T) {
	text, err := os.ReadFile("../fermata.catalog")
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range regexp.MustCompile(`(?m)^-- ([0-9a-f]{32})\nSubject: .+\nDefined-By: Fermata\nSupport: .+\nDocumentation: .+/docs/([a-z-]+\.md)\n\n\S`).FindAllStringSubmatch(string(text), -1) {
		ids = append(ids, m[1])
		if _, err := os.Stat("../../docs/" + m[2]); err != nil {
			t.Error(err)
		}
	}
	if want := slices.Sorted(maps.Values(Messages)); !slices.Equal(slices.Sorted(slices.Values(ids)), want) || strings.Count(string(text), "\n-- ") != len(want) {
		t.Errorf("the catalogue has %q, the table %q", ids, want)
	}
	for _, m := range regexp.MustCompile(`@([A-Z_]+)@`).FindAllStringSubmatch(string(text), -1) {
		if !slices.Contains(slices.Collect(maps.Values(fields)), m[1]) {
			t.Errorf("the catalogue speaks of field %s", m[1])
		}
	}
	var code strings.Builder
	for _, dir := range []string{"../../daemon", "../../daemon/bus", "../../cmd/fermatad"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(b)
		}
	}
	for message := range Messages {
		if !strings.Contains(code.String(), fmt.Sprintf("%q", message)) {
			t.Errorf("nobody logs %q", message)
		}
	}
}
