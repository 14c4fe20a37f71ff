// Package feed carries the daemon's metrics over a local socket to fermata-exporter: one document of delimited protobuf messages
// (io.prometheus.client.MetricFamily) for each connection, which then ends. So the daemon, which is root and holds its pages
// in memory, needs no HTTP, no TLS and no network.
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

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// Socket is where the daemon feeds.
const Socket = "/run/fermata/metrics.sock"

const (
	patience = 5 * time.Second // of either side
	most     = 64 << 20        // bytes of a document
	readers  = 4               // at a time
)

var format = expfmt.NewFormat(expfmt.TypeProtoDelim)

// Serve feeds whoever connects to the socket until ctx ends. Everybody on the host may: it tells no more than the bus.
func Serve(ctx context.Context, socket string, from prometheus.Gatherer, log *slog.Logger) error {
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
			log.Warn("cannot take a reader of metrics", "error", err)
			time.Sleep(time.Second)
			continue
		}
		places <- struct{}{}
		go func() {
			defer func() { <-places }()
			if err := errors.Join(c.SetDeadline(time.Now().Add(patience)), write(c, from), c.Close()); err != nil {
				log.Debug("a reader of metrics went away", "error", err)
			}
		}()
	}
}

func write(w io.Writer, from prometheus.Gatherer) error {
	families, err := from.Gather()
	if err != nil {
		return err
	}
	b := bufio.NewWriter(w)
	e := expfmt.NewEncoder(b, format)
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return err
		}
	}
	return b.Flush()
}

// Read reads what the daemon behind the socket has to tell.
func Read(ctx context.Context, socket string) ([]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the daemon: %w", err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, err
	}
	var families []*dto.MetricFamily
	d := expfmt.NewDecoder(io.LimitReader(c, most), format)
	for {
		f := new(dto.MetricFamily)
		switch err := d.Decode(f); {
		case errors.Is(err, io.EOF) && len(families) > 0:
			return families, nil
		case err != nil:
			return nil, fmt.Errorf("cannot read the daemon's metrics: %w", err)
		}
		families = append(families, f)
	}
}
