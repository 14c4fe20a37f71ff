package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errNotSQLite says that a file is no database of SQLite.
var errNotSQLite = errors.New("is not an SQLite database")

// errHot says that a program died while it wrote, and nobody has cleaned up yet.
var errHot = errors.New("has a journal that nobody has rolled back yet: open it once, for example by: sqlite3 FILE 'SELECT count(*) FROM sqlite_schema'")

// How a database is held.
const (
	byReserved  = "reserved lock"        // of the database
	byLog       = "write-ahead log lock" // of the -shm file
	byExclusive = "exclusive lock"       // in WAL mode, and nobody has it open
)

// header is what is read of a database's first 100 bytes (sqlite.org/fileformat2.html, 1.3).
type header struct {
	wal     bool
	changes uint32 // file change counter; not kept in WAL mode
}

const headerSize = 100

func parseHeader(b []byte) (header, error) {
	if len(b) == 0 {
		return header{}, nil // made, and not yet written to
	}
	if len(b) < headerSize || string(b[:16]) != "SQLite format 3\x00" {
		return header{}, errNotSQLite
	}
	return header{wal: b[18] == 2 || b[19] == 2, changes: binary.BigEndian.Uint32(b[24:])}, nil
}

func readHeader(f *os.File) (header, error) {
	b := make([]byte, headerSize)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	return parseHeader(b[:n])
}

// database is one that is held.
type database struct {
	path      string // without symbolic links
	how       string
	header    header
	file, shm *os.File
	before    state
}

// state is what changes if somebody writes in spite of the lock.
type state struct{ file, log stamp }

// stamp tells a file from another one, and from itself after a write.
type stamp struct {
	device, inode uint64
	size          int64
	written       time.Time
}

// open opens a file for locking. That takes the right to write, but nothing is written.
func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s %w", path, errNotSQLite)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// try takes the lock of a database at once, or fails.
func try(path string) (d *database, err error) {
	d = &database{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.release())
		}
	}()
	if d.file, err = open(path); err != nil {
		return d, err
	}
	if err := share(d.file); err != nil {
		return d, err
	}
	if d.header, err = readHeader(d.file); err != nil {
		return d, err
	}
	if d.header.wal {
		err = d.holdLog()
	} else {
		err = d.holdFile()
	}
	if err == nil {
		d.before, err = stateOf(path)
	}
	if err == nil {
		err = d.sameFiles()
	}
	return d, err
}

// holdFile holds a database with a rollback journal. A journal that is left by a
// dead writer must be seen before RESERVED is taken: who finds one beside that
// lock takes it for the journal of a living one, and reads what it would undo.
// None can become so afterwards, for under SHARED nobody writes to the database.
func (d *database) holdFile() error {
	d.how = byReserved
	left, err := hasJournal(d.path + "-journal")
	if err != nil {
		return err
	}
	if left {
		writing, err := locked(d.file, reservedByte, 1)
		if err != nil {
			return err
		}
		if writing {
			return errBusy
		}
		return errHot
	}
	return reserve(d.file)
}

// hasJournal says whether a journal has something to roll back: its header is
// emptied, or it is removed, when a transaction ends.
func hasJournal(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	var first [1]byte
	if _, err := f.ReadAt(first[:], 0); errors.Is(err, io.EOF) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	return first[0] != 0, nil
}

// holdLog holds a database in WAL mode. SHARED, which every connection keeps in
// this mode, stops the last one that closes from removing log and -shm. Without
// -shm nobody has it open, and nobody may until the hold ends.
func (d *database) holdLog() (err error) {
	d.shm, err = open(d.path + "-shm")
	if errors.Is(err, fs.ErrNotExist) {
		d.how = byExclusive
		return exclude(d.file)
	}
	if err != nil {
		return err
	}
	d.how = byLog
	return lockLog(d.shm)
}

// release lets go. It may be called again.
func (d *database) release() error {
	var errs []error
	for _, f := range []*os.File{d.shm, d.file} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	d.shm, d.file = nil, nil
	return errors.Join(errs...)
}

// stateOf looks at a database and its write-ahead log. A log that does not exist
// is as one that is empty: opening makes it.
func stateOf(path string) (s state, err error) {
	if s.file, err = stampOf(path); err != nil {
		return s, err
	}
	s.log, err = stampOf(path + "-wal")
	if errors.Is(err, fs.ErrNotExist) || err == nil && s.log.size == 0 {
		s.log, err = stamp{}, nil
	}
	return s, err
}

func stampOf(path string) (stamp, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return stamp{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	return stamp{uint64(st.Dev), st.Ino, info.Size(), info.ModTime()}, nil
}

// sameFiles is nil if the files that are locked are those that the path leads to.
func (d *database) sameFiles() error {
	for _, f := range []*os.File{d.file, d.shm} {
		if f == nil {
			continue
		}
		named, err := os.Lstat(f.Name())
		if err != nil {
			return err
		}
		opened, err := f.Stat()
		if err != nil {
			return err
		}
		if !os.SameFile(named, opened) {
			return fmt.Errorf("%s was replaced by another file", f.Name())
		}
	}
	return nil
}

// proven is nil if the lock is still there, on the same files, and nobody has
// written in spite of it.
func (d *database) proven() error {
	if err := d.sameFiles(); err != nil {
		return err
	}
	if err := d.seenLocked(); err != nil {
		return err
	}
	now, err := stateOf(d.path)
	if err != nil {
		return err
	}
	if now != d.before {
		return fmt.Errorf("%s was written to in spite of its lock: does a program use it without locks (nolock, unix-none, unix-dotfile)?", d.path)
	}
	return nil
}

// seenLocked looks at the lock as another program would.
func (d *database) seenLocked() error {
	path, start, length := d.path, int64(reservedByte), int64(1)
	switch d.how {
	case byLog:
		path, start, length = d.path+"-shm", walWriteByte, 1
	case byExclusive:
		start, length = sharedFirst, sharedSize
	}
	f, err := open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	held, err := locked(f, start, length)
	if err == nil && !held {
		err = fmt.Errorf("the lock of %s is gone", d.path)
	}
	return err
}

// data is the database as the manifest has it.
func (d *database) data() map[string]any {
	mode := "rollback"
	if d.header.wal {
		mode = "wal"
	}
	data := map[string]any{"path": d.path, "journal": mode, "held_by": d.how, "size": d.before.file.size}
	if d.header.wal {
		data["wal_size"] = d.before.log.size
	} else {
		data["change_counter"] = d.header.changes
	}
	return data
}
