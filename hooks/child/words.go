package child

import (
	"bytes"
	"os"
	"strings"
	"sync"
	"unicode"
)

const (
	// wordsKept is what is kept of the end of a standard error, in bytes, between two looks at it.
	wordsKept = 8 << 10
	// wordsShown is how much of that an error tells, in bytes.
	wordsShown = 4 << 10
)

// Words keep the end of what a process says on its standard error until somebody takes it: what is said in the freeze
// window must not be logged there.
type Words struct {
	mu   sync.Mutex
	kept []byte // since the last Take
	last string // the last line that was taken
	cut  bool   // there was more before
	all  chan struct{}
}

// read reads all of r, so that the program never blocks, and closes it.
func (w *Words) read(r *os.File) {
	defer close(w.all)
	defer r.Close()
	buf := make([]byte, 4<<10)
	for {
		n, err := r.Read(buf)
		w.hear(buf[:n])
		if err != nil {
			return
		}
	}
}

func (w *Words) hear(said []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, said...)
	if over := len(w.kept) - wordsKept; over > 0 {
		w.kept, w.cut = append(w.kept[:0], w.kept[over:]...), true
	}
}

// Take gives the lines that have come since it was called last, and whether there were more before them.
func (w *Words) Take() (lines []string, cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for line := range bytes.Lines(w.kept) {
		if text := printable(line); text != "" {
			lines, w.last = append(lines, text), text
		}
	}
	cut = w.cut
	w.kept, w.cut = w.kept[:0], false
	return lines, cut
}

// Last is the last line, taken or not.
func (w *Words) Last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := bytes.TrimSpace(w.kept)
	if last := printable(said[bytes.LastIndexByte(said, '\n')+1:]); last != "" {
		return last
	}
	return w.last
}

// String is what was not taken, as one line.
func (w *Words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return printable(w.kept[max(0, len(w.kept)-wordsShown):])
}

// printable is text as one line for people, without control characters.
func printable(text []byte) string {
	one := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(text), "?"))
	return strings.Join(strings.Fields(one), " ")
}
