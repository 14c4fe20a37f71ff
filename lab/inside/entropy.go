package inside

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// addEntropy gives the kernel's random number generator a seed and makes it count
// it in full (random(4), RNDADDENTROPY).
func addEntropy(seed []byte) error {
	f, err := os.OpenFile(stageRoot+"/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot seed the random numbers: %w", err)
	}
	defer f.Close()
	// struct rand_pool_info: bits counted, bytes, the bytes.
	var info bytes.Buffer
	for _, v := range []any{int32(8 * len(seed)), int32(len(seed)), seed} {
		if err := binary.Write(&info, binary.NativeEndian, v); err != nil {
			return fmt.Errorf("cannot seed the random numbers: %w", err)
		}
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.RNDADDENTROPY, uintptr(unsafe.Pointer(&info.Bytes()[0])))
	if errno != 0 {
		return fmt.Errorf("cannot seed the random numbers: %w", errno)
	}
	return nil
}
