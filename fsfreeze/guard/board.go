package guard

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/fsfreeze"
)

// Reason says who ended a hold.
type Reason uint32

const (
	Open     Reason = iota // the hold goes on
	Closed                 // the daemon let everything go itself
	Deadline               // the guard released: the deadline passed
	Died                   // the guard released: the daemon died
	Stopped                // the guard released: it was told to stop
)

var reasons = [...]string{"", "closed", "deadline", "daemon died", "guard was stopped"}

func (r Reason) String() string {
	if int(r) < len(reasons) {
		return reasons[r]
	}
	return fmt.Sprintf("reason %d", uint32(r))
}

// cellsAt is the offset of the first cell on the board, in bytes.
const cellsAt = 16

// Board is the memory that daemon and guard share: who ended the hold, and the state of each thing held.
type Board struct {
	fd  int
	mem []byte
}

// newBoard makes a board for n cells.
func newBoard(n int) (*Board, error) {
	fd, err := unix.MemfdCreate("fermata-board", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("cannot make the board that the guard shares: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(boardSize(n))); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot size the board that the guard shares: %w", err)
	}
	// The size is sealed, so that neither side can make the other's mapping fault.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot seal the board that the guard shares: %w", err)
	}
	return openBoard(fd, n)
}

// openBoard maps a board of n cells; it owns fd from then on, also when it fails.
func openBoard(fd, n int) (*Board, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size < int64(boardSize(n)) {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot use the board: %d bytes are too few for %d cells (%v)", st.Size, n, err)
	}
	mem, err := unix.Mmap(fd, 0, boardSize(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot map the board: %w", err)
	}
	return &Board{fd: fd, mem: mem}, nil
}

func boardSize(n int) int { return cellsAt + 4*n }

func (b *Board) word(offset int) *uint32 { return (*uint32)(unsafe.Pointer(&b.mem[offset])) }

// Cell is the i-th cell.
func (b *Board) Cell(i int) *fsfreeze.Cell {
	return (*fsfreeze.Cell)(unsafe.Pointer(b.word(cellsAt + 4*i)))
}

// End ends the hold for a reason, unless it has ended already; it reports whether it did.
func (b *Board) End(r Reason) bool {
	return atomic.CompareAndSwapUint32(b.word(0), uint32(Open), uint32(r))
}

// Ended is why the hold has ended, or Open.
func (b *Board) Ended() Reason { return Reason(atomic.LoadUint32(b.word(0))) }

// Close closes the descriptor but leaves the memory mapped: a freeze that completes late still looks at its cell.
func (b *Board) Close() error { return unix.Close(b.fd) }

// Unmap gives the memory back; nobody may look at a cell afterwards.
func (b *Board) Unmap() error { return unix.Munmap(b.mem) }
