package mongodb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/fermata-project/fermata/hooks/recipe"
)

const (
	connectTimeout = 10 * time.Second
	// defaultLimit bounds a command when Fermata names no time limit.
	defaultLimit = time.Minute
	// maxReply is the longest message that is read, in bytes. The longest that is
	// asked for is serverStatus, some 100 KiB.
	maxReply = 4 << 20
	// opMsg is the one message of the protocol, since MongoDB 3.6 (MongoDB
	// manual, "MongoDB Wire Protocol").
	opMsg = 2013
	// checksum is the flag that says that four bytes follow the sections.
	checksum = 1
	header   = 16
)

// Error codes of the server that are told apart (error_codes.yml).
const (
	codeUnauthorized     = 13
	codeIllegalOperation = 20
)

// Error is the server's refusal of a command.
type Error struct {
	Command string
	Code    int64
	Text    string
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s (code %d)", e.Command, e.Text, e.Code) }

func hasCode(err error, code int64) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}

// conn is one connection.
type conn struct {
	net.Conn
	last int32 // number of the last request
}

// connect opens a connection and logs in.
func connect(ctx context.Context, o Options) (*conn, error) {
	network := "tcp"
	if strings.HasPrefix(o.Address, "/") {
		network = "unix"
	}
	nc, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, network, o.Address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	c := &conn{Conn: nc}
	if o.User == "" {
		return c, nil
	}
	password, err := recipe.ReadPassword(o.PasswordFile)
	if err == nil {
		err = logIn(ctx, c, o.User, password)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot log in as %s: %w", o.User, err), c.Close())
	}
	return c, nil
}

// run runs a command on the database admin.
func (c *conn) run(ctx context.Context, command document) (reply, error) {
	name := command[0].name
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Now().Add(defaultLimit)
	}
	if err := c.SetDeadline(until); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.last++
	if _, err := c.Write(message(c.last, 0, append(command[:len(command):len(command)], element{"$db", "admin"}))); err != nil {
		return nil, fmt.Errorf("cannot send %s: %w", name, err)
	}
	to, r, err := readMessage(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if to != c.last {
		return nil, fmt.Errorf("%s: the server answered another request", name)
	}
	if !r.yes("ok") {
		code, _ := r.number("code") // 0 if the server gives none
		return nil, &Error{name, code, r.text("errmsg")}
	}
	return r, nil
}

// message is a document as a message.
func message(number, answers int32, d document) []byte {
	body := d.encode()
	b := make([]byte, 0, header+5+len(body))
	for _, n := range []int32{int32(cap(b)), number, answers, opMsg} {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	return append(append(b, 0, 0, 0, 0, 0), body...) // no flags; one section, of kind 0
}

// readMessage reads a message and returns which one it answers.
func readMessage(r io.Reader) (answers int32, d reply, err error) {
	var head [header]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n, code := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[12:])
	if code != opMsg || n < header+10 || n > maxReply {
		return 0, nil, fmt.Errorf("the server does not speak MongoDB's protocol, or sent more than %d bytes", maxReply)
	}
	body := make([]byte, n-header)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, err
	}
	flags := binary.LittleEndian.Uint32(body)
	if flags&checksum != 0 {
		body = body[:len(body)-4]
	}
	if len(body) < 5 || flags&^checksum != 0 || body[4] != 0 {
		return 0, nil, errBSON
	}
	d, rest, err := parseDocument(body[5:], maxDepth)
	if err == nil && len(rest) > 0 {
		err = errBSON
	}
	return int32(binary.LittleEndian.Uint32(head[8:])), d, err
}
