package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/fermata-project/fermata/hooks/recipe"
)

const (
	connectTimeout = 10 * time.Second
	// defaultLimit bounds a command when Fermata names no time limit.
	defaultLimit = time.Minute
)

// serverNames are the names of a server's process (/proc/PID/comm).
var serverNames = []string{"redis-server", "valkey-server"}

// conn is one connection. Goroutines may share it for commands by do.
type conn struct {
	net.Conn
	in *bufio.Reader
	mu sync.Mutex // from a command to its reply
}

// connect opens a connection and logs in.
func connect(ctx context.Context, o Options) (*conn, error) {
	network, address := "tcp", o.Address
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	d := net.Dialer{Timeout: connectTimeout}
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	c := &conn{Conn: nc, in: bufio.NewReader(nc)}
	if err := c.logIn(ctx, o); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *conn) logIn(ctx context.Context, o Options) error {
	if o.PasswordFile == "" {
		return nil
	}
	password, err := recipe.ReadPassword(o.PasswordFile)
	if err != nil {
		return err
	}
	words := []string{"AUTH", password}
	if o.User != "" {
		words = []string{"AUTH", o.User, password}
	}
	if _, err := c.do(ctx, words...); err != nil {
		return fmt.Errorf("cannot log in: %w", err)
	}
	return nil
}

// send writes a command; its reply comes with receive.
func (c *conn) send(ctx context.Context, words ...string) error {
	if err := c.SetDeadline(deadline(ctx)); err != nil {
		return err
	}
	_, err := c.Write(command(words...))
	return err
}

// receive reads a reply.
func (c *conn) receive(ctx context.Context) (any, error) {
	if err := c.SetDeadline(deadline(ctx)); err != nil {
		return nil, err
	}
	return readReply(c.in)
}

// do sends a command and reads its reply. An error names the command, but not
// its arguments, for one of them may be a password.
func (c *conn) do(ctx context.Context, words ...string) (any, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	err := c.send(ctx, words...)
	if err != nil {
		return nil, fmt.Errorf("cannot send %s: %w", words[0], err)
	}
	reply, err := c.receive(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", words[0], err)
	}
	return reply, nil
}

// text is do for a reply that is a string.
func (c *conn) text(ctx context.Context, words ...string) (string, error) {
	reply, err := c.do(ctx, words...)
	if err != nil {
		return "", err
	}
	s, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("%s: the server answered with %T, not with a string", words[0], reply)
	}
	return s, nil
}

// silent says whether no reply has come to a command that was sent before.
func (c *conn) silent() (bool, error) {
	if c.in.Buffered() > 0 {
		return false, nil
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		return false, err
	}
	_, err := c.in.Peek(1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return true, nil
	}
	return false, err
}

func deadline(ctx context.Context) time.Time {
	if ctx.Err() != nil {
		return time.Unix(1, 0)
	}
	if d, ok := ctx.Deadline(); ok {
		return d
	}
	return time.Now().Add(defaultLimit)
}
