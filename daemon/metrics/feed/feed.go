// Package feed carries what the daemon knows over local sockets to fermata-exporter: a document for each connection, which then
// ends. On one socket that is its metrics, as delimited protobuf messages (io.prometheus.client.MetricFamily), on the other an
// overview (api.Overview) in JSON. So the daemon, which is root and holds its pages in memory, needs no HTTP, no TLS, no network
// and no HTML.
package feed

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"
)

// Names of the sockets in the daemon's directory.
const (
	MetricsSocket  = "metrics.sock"
	OverviewSocket = "overview.sock"
)

// Dir is where the daemon feeds.
const Dir = "/run/fermata"

const (
	patience = 5 * time.Second // of either side
	most     = 64 << 20        // bytes of a document
	readers  = 4               // of a socket at a time
)

// Serve feeds whoever connects to the socket with what document writes, until ctx ends. Everybody on the host may connect.
func Serve(ctx context.Context, socket string, document func(io.Writer) error, log *slog.Logger) error {
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot replace what an earlier daemon has left: %w", err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	if err := os.Chmod(socket, 0o666); err != nil {
		return errors.Join(err, l.Close())
	}
	places := make(chan struct{}, readers)
	for {
		c, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // no descriptors left, say
			log.Warn("cannot take a reader", "socket", socket, "error", err)
			time.Sleep(time.Second)
			continue
		}
		places <- struct{}{}
		go func() {
			defer func() { <-places }()
			if err := errors.Join(c.SetDeadline(time.Now().Add(patience)), write(c, document), c.Close()); err != nil {
				log.Debug("a reader went away", "socket", socket, "error", err)
			}
		}()
	}
}

func write(w io.Writer, document func(io.Writer) error) error {
	b := bufio.NewWriter(w)
	return errors.Join(document(b), b.Flush())
}

// read lets decode read what the daemon feeds on a socket.
func read(ctx context.Context, socket string, decode func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("cannot reach the daemon: %w", err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	return decode(io.LimitReader(c, most))
}
