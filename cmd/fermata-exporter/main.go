// Command fermata-exporter shows the daemon's metrics to Prometheus and a status page to people: by HTTP, with TLS and passwords if
// its web configuration asks for them. For node_exporter it writes the metrics into a file. It needs no rights: see
// daemon/metrics/feed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/metrics/feed"
	"github.com/fermata-project/fermata/daemon/page"
)

// version is set by the linker.
var version = "(devel)"

func main() {
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "fermata-exporter %s shows fermatad's metrics and a status page, where %s/fermata.yaml (metrics) or a socket of systemd says.\n\n", version, config.Dir)
		flag.PrintDefaults()
	}
	dir := flag.String("config", config.Dir, "directory of the configuration")
	from := flag.String("from", feed.Dir, "`directory` of the sockets on which the daemon feeds")
	textfile := flag.String("textfile", "", "write the metrics into this `file` for node_exporter's textfile collector, and exit; - prints them")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "fermata-exporter: %q is not understood; see --help\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	socket := filepath.Join(*from, feed.MetricsSocket)
	run := func() error { return serve(ctx, *dir, *from, log) }
	switch *textfile {
	case "":
	case "-":
		run = func() error { return print(ctx, socket, os.Stdout) }
	default:
		run = func() error { return writeTextfile(ctx, *textfile, socket, log) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "fermata-exporter:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, dir, from string, log *slog.Logger) error {
	c, err := config.Load(dir)
	if err != nil {
		return err
	}
	listeners, err := listeners(c.Daemon.Metrics.Listen)
	if err != nil {
		return err
	}
	if len(listeners) == 0 {
		return fmt.Errorf("there is no address to listen on: set metrics.listen in %s/fermata.yaml, or enable fermata-exporter.socket", dir)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", handler(filepath.Join(from, feed.MetricsSocket), log))
	page.Handle(mux, func(ctx context.Context) (*api.Overview, error) {
		return feed.ReadOverview(ctx, filepath.Join(from, feed.OverviewSocket))
	}, log)
	return serveHTTP(ctx, listeners, mux, c.Daemon.Metrics.WebConfig, log)
}

// listeners are those that systemd passes, and the configured one.
func listeners(address string) ([]net.Listener, error) {
	all, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("cannot take the sockets of systemd: %w", err)
	}
	if address == "" {
		return all, nil
	}
	l, err := listen(address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen on %s: %w", address, err), closeAll(all))
	}
	return append(all, l), nil
}

func closeAll(all []net.Listener) error {
	var errs []error
	for _, l := range all {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
