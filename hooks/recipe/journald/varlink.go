package journald

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

// maxReply is the longest answer that is read, in bytes.
const maxReply = 64 << 10

// defaultLimit bounds a call when Fermata names no time limit.
const defaultLimit = time.Minute

// refusal is the name of an error that journald answered.
type refusal string

func (r refusal) Error() string { return "journald refuses: " + string(r) }

// conn is a connection by varlink (varlink.org): JSON objects, each ended by a
// zero byte.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func dial(ctx context.Context, socket string) (*conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, explained(socket, err)
	}
	return &conn{nc, bufio.NewReaderSize(nc, maxReply)}, nil
}

// call calls a method without parameters and waits for its answer, whose
// parameters are of no interest.
func (c *conn) call(ctx context.Context, method string) error {
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Now().Add(defaultLimit)
	}
	if err := c.SetDeadline(until); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := fmt.Fprintf(c, "{\"method\":%q}\x00", method); err != nil {
		return err
	}
	line, err := c.in.ReadSlice(0)
	if errors.Is(err, bufio.ErrBufferFull) {
		return fmt.Errorf("the answer is longer than %d bytes", maxReply)
	}
	if err != nil {
		return err
	}
	return parseReply(line)
}

// parseReply is nil for an answer that is no error.
func parseReply(line []byte) error {
	var reply struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(bytes.TrimSuffix(line, []byte{0}), &reply); err != nil {
		return fmt.Errorf("the answer is no varlink: %w", err)
	}
	if reply.Error != "" {
		return refusal(reply.Error)
	}
	return nil
}
