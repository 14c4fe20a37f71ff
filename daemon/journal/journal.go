// Package journal records what a transaction is about to do, before it does it, so that a daemon that starts after a
// crash knows what may have been left behind.
//
// # Format
//
// One file a transaction, NAME.journal, in a directory on a tmpfs (/run/fermata/journal): a power cut takes the journal
// along with everything that it speaks of that could be frozen or suspended; what survives a power cut is told by LVM
// tags. A file is a sequence of lines
//
//	CCCCCCCC {"seq":1,"time":"…","step":"prepare","state":"doing","data":{…}}\n
//
// where CCCCCCCC is the CRC-32C of the JSON text in hexadecimal and seq counts from 1 without a gap. A line is written
// with one write(2). The last line may be torn (it lacks its newline): it was never acted upon and is dropped. Anything
// else that is wrong is corruption, and refused: ErrCorrupt names file and line.
//
// Whoever writes a journal holds it locked (flock(2)).
//
// Nothing is written between the first filesystem frozen and the last one thawed. docs/journal.md says more.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ErrCorrupt: a journal is damaged other than by a torn last line.
var ErrCorrupt = errors.New("the journal is corrupt")

// State of a step.
type State string

const (
	Doing   State = "doing"   // about to happen, or an attempt was made
	Done    State = "done"    // happened
	Failed  State = "failed"  // did not happen, or only in part
	Undoing State = "undoing" // being undone
	Undone  State = "undone"  // as if it had never happened
)

// Record is one line.
type Record struct {
	Seq   int             `json:"seq"`
	Time  time.Time       `json:"time"`
	Step  string          `json:"step"`
	State State           `json:"state"`
	Data  json.RawMessage `json:"data,omitempty"`
}

// Holding are the steps during which filesystems and devices are held. The record that begins one has what it holds.
var Holding = []string{"probe", "window"}

const (
	suffix  = ".journal"
	maxSize = 16 << 20 // bytes of one file; a real one has some kilobytes
)

var table = crc32.MakeTable(crc32.Castagnoli)

// Journal is one transaction's file, open for appending.
type Journal struct {
	f      *os.File
	seq    int
	size   int64 // of the whole records, in bytes
	broken error // why nothing can be written any more
}

// Create starts the journal of a transaction; name is the set's id.
func Create(dir, name string) (*Journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the journal's directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, name+suffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot start the journal: %w", err)
	}
	// The lock ends when the last thread of a dead process has left the kernel.
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot lock the journal: %w", err), os.Remove(f.Name()), f.Close())
	}
	return &Journal{f: f}, nil
}

// Write appends a record; data may be nil. Nothing is left of a record that could not be written, or else nothing is written after
// it: a piece of it in the middle would make all that follows unreadable.
func (j *Journal) Write(step string, state State, data any) error {
	r := Record{Seq: j.seq + 1, Time: time.Now().UTC(), Step: step, State: state}
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("internal error: cannot encode a journal record: %w", err)
		}
		r.Data = raw
	}
	line, err := encode(r)
	if err != nil {
		return err
	}
	if j.broken != nil {
		return fmt.Errorf("cannot write the journal: it may end in the middle of a record: %w", j.broken)
	}
	if _, err := j.f.Write(line); err != nil {
		if cutErr := j.f.Truncate(j.size); cutErr != nil {
			j.broken = errors.Join(err, cutErr)
		}
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	j.seq, j.size = j.seq+1, j.size+int64(len(line))
	return nil
}

// Remove ends the transaction: nothing of it is in flight any more.
func (j *Journal) Remove() error {
	return errors.Join(os.Remove(j.f.Name()), j.f.Close())
}

// Close leaves the journal behind, for the next start to look at.
func (j *Journal) Close() error { return j.f.Close() }

func encode(r Record) ([]byte, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("internal error: cannot encode a journal record: %w", err)
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, table), text), nil
}

// Parse reads a journal's text. A torn last line is dropped.
func Parse(text []byte) ([]Record, error) {
	var records []Record
	for n := 1; len(text) > 0; n++ {
		line, rest, whole := bytes.Cut(text, []byte{'\n'})
		r, err := parseLine(line)
		if err == nil && whole && r.Seq != n {
			err = fmt.Errorf("record %d where %d is due", r.Seq, n)
		}
		if !whole {
			return records, nil
		}
		if err != nil {
			return records, fmt.Errorf("%w: line %d: %w", ErrCorrupt, n, err)
		}
		records, text = append(records, r), rest
	}
	return records, nil
}

func parseLine(line []byte) (r Record, err error) {
	if len(line) < 9 || line[8] != ' ' {
		return r, errors.New("no checksum")
	}
	sum, err := strconv.ParseUint(string(line[:8]), 16, 32)
	if err != nil {
		return r, errors.New("no checksum")
	}
	if got := crc32.Checksum(line[9:], table); got != uint32(sum) {
		return r, fmt.Errorf("checksum %08x where %08x is written", got, sum)
	}
	return r, json.Unmarshal(line[9:], &r)
}

// Leftover is the journal of a transaction that never ended.
type Leftover struct {
	Name    string // the set's id
	Records []Record
	Err     error // it is corrupt, and Records is what could be read
	path    string
	whole   int64 // bytes of the whole lines
}

// Remove forgets a leftover, after it has been repaired.
func (l Leftover) Remove() error { return os.Remove(l.path) }

// Released takes down that nothing is held any more, so that nobody releases it again.
func (l Leftover) Released() (err error) {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	j := Journal{f: f, seq: len(l.Records), size: l.whole}
	defer func() { err = errors.Join(err, j.Close()) }()
	if err := f.Truncate(l.whole); err != nil { // a torn last line
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	for _, step := range Holding {
		if state, _, begun := l.Last(step); begun && state == Doing {
			err = errors.Join(err, j.Write(step, Undone, nil))
		}
	}
	return err
}

// Open reports whether somebody still has the journal open: the transaction lives, or has been killed while a thread of it
// is inside the kernel, and may still freeze something. One that cannot be read counts as open.
func (l Leftover) Open() bool {
	f, err := os.Open(l.path)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil
}

// Last is the last state of a step, and the data of its first record; ok is false if it was never begun.
func (l Leftover) Last(step string) (state State, data json.RawMessage, ok bool) {
	for _, r := range l.Records {
		if r.Step != step {
			continue
		}
		if !ok {
			data, ok = r.Data, true
		}
		state = r.State
	}
	return state, data, ok
}

// Leftovers reads the journals of transactions that never ended. A corrupt one comes with what could be read of it, and
// an error that names it.
func Leftovers(dir string) ([]Leftover, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the journal: %w", err)
	}
	var out []Leftover
	var errs []error
	for _, e := range entries {
		name, found := strings.CutSuffix(e.Name(), suffix)
		if !found {
			continue
		}
		l := Leftover{Name: name, path: filepath.Join(dir, e.Name())}
		if l.Records, l.whole, err = read(l.path); errors.Is(err, os.ErrNotExist) { // its transaction has just ended
			continue
		} else if err != nil {
			l.Err = fmt.Errorf("cannot read %s: %w", l.path, err)
			errs = append(errs, l.Err)
		}
		out = append(out, l)
	}
	return out, errors.Join(errs...)
}

func read(path string) (records []Record, whole int64, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if st.Size() > maxSize {
		return nil, 0, fmt.Errorf("%w: %d bytes", ErrCorrupt, st.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	records, err = Parse(text)
	return records, int64(bytes.LastIndexByte(text, '\n') + 1), err
}
