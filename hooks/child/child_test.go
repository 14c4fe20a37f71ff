package child

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sh runs a script whose standard output can be read until nobody has it open any more.
func sh(t *testing.T, script string, whole bool) (*Process, *os.File) {
	t.Helper()
	out, childOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start(Command{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Stdout: childOut, Orphaned: syscall.SIGKILL, Whole: whole})
	childOut.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		out.Close()
	})
	return p, out
}

// What a program leaves behind in its group goes with it if it was to be whole, or was ended.
func TestGroup(t *testing.T) {
	for _, tt := range []struct {
		name, script string
		whole        bool
		end          func(*Process)
		survives     bool
		how          string
	}{
		{name: "left alone", script: `sleep 1 & exit 3`, survives: true, how: " (exit status 3)"},
		{name: "whole", script: `sleep 300 & exit 3`, whole: true, how: " (exit status 3)"},
		{name: "killed", script: `sleep 300 & sleep 300`, end: (*Process).Kill},
		{name: "terminated", script: `sleep 300 & sleep 300`, end: (*Process).Terminate},
		{name: "terminated, and deaf", script: `trap '' TERM; sleep 300 & wait; wait`, end: (*Process).Terminate},
		{name: "terminated, and says so", script: `trap 'exit 4' TERM; sleep 300 & echo; wait`, end: (*Process).Terminate, how: " (exit status 4)"},
		{name: "killed by somebody else", script: `kill -9 $$`, how: " (signal: killed)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, out := sh(t, tt.script, tt.whole)
			if tt.end != nil {
				if strings.Contains(tt.script, "echo") { // it listens from here on
					if _, err := out.Read(make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
				}
				tt.end(p)
			}
			if err := p.Buried(Grace + 10*time.Second); err != nil {
				t.Fatal(err)
			}
			limit := time.Now().Add(10 * time.Second)
			if tt.survives {
				limit = time.Now().Add(100 * time.Millisecond)
			}
			if err := out.SetReadDeadline(limit); err != nil {
				t.Fatal(err)
			}
			_, err := out.Read(make([]byte, 1))
			if survives := os.IsTimeout(err); survives != tt.survives {
				t.Errorf("its child lives: %t (%v)", survives, err)
			}
			if how := p.Explain(""); how != tt.how {
				t.Errorf("it ended %q, want %q", how, tt.how)
			}
		})
	}
}

func TestStartFails(t *testing.T) {
	_, err := Start(Command{Path: "/nowhere", Args: []string{"x"}})
	if !os.IsNotExist(err) && (err == nil || !strings.Contains(err.Error(), "cannot run /nowhere")) {
		t.Errorf("got %v", err)
	}
}

func TestWords(t *testing.T) {
	long := strings.Repeat("x", wordsKept)
	for _, tt := range []struct {
		name        string
		said        []string
		lines       []string
		cut         bool
		last, whole string
	}{
		{name: "nothing"},
		{name: "lines", said: []string{"on", "e\ntwo\n", "\n"}, lines: []string{"one", "two"}, last: "two", whole: "one two"},
		{name: "not for a terminal", said: []string{"a\x1b[31mb\xff\n"}, lines: []string{"a [31mb?"}, last: "a [31mb?", whole: "a [31mb?"},
		{name: "too much", said: []string{"begin\n", long, "\nend"}, cut: true, last: "end",
			lines: []string{long[:wordsKept-4], "end"}, whole: long[:wordsShown-4] + " end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var w Words
			for _, s := range tt.said {
				w.hear([]byte(s))
			}
			if w.Last() != tt.last || w.String() != tt.whole {
				t.Errorf("last %q, whole %.100q", w.Last(), w.String())
			}
			lines, cut := w.Take()
			if fmt.Sprint(lines) != fmt.Sprint(tt.lines) || cut != tt.cut {
				t.Errorf("lines %.100q, cut %t", lines, cut)
			}
			if w.Last() != tt.last || w.String() != "" {
				t.Errorf("after they were taken: last %q, whole %q", w.Last(), w.String())
			}
		})
	}
}

// What a program says is known when its end is.
func TestLastWords(t *testing.T) {
	p, _ := sh(t, `echo first >&2; echo last >&2; exit 1`, true)
	if !p.Gone(10 * time.Second) {
		t.Fatal("it does not end")
	}
	p.Settle()
	if got, want := p.Explain(p.Words.String()), " (exit status 1; it said: first last)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
