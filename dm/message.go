package dm

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message; the longest that Fermata sends is "create_snap" with two 24-bit numbers.
const maxMessage = 4096

// Message sends a message to the target that maps a sector of the device, such as "create_snap 5 1" to sector 0 of a
// thin pool.
func (c *Control) Message(ref Ref, sector uint64, msg string) error {
	if len(msg) > maxMessage || strings.ContainsRune(msg, 0) {
		return fmt.Errorf("cannot send message %s to %s: it is invalid", quote(msg), ref)
	}
	q := messageRequest(ref, sector, msg)
	_, err := c.doRef(&q, 0)
	return err
}

// messageRequest lays out struct dm_target_msg: sector, then the message as a C string.
func messageRequest(ref Ref, sector uint64, msg string) request {
	payload := binary.NativeEndian.AppendUint64(nil, sector)
	payload = append(append(payload, msg...), 0)
	return request{op: fmt.Sprintf("send message %s to", quote(msg)), cmd: unix.DM_TARGET_MSG, ref: ref, payload: payload}
}
