package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/fermata-project/fermata/daemon/metrics/feed"
)

// gather is what is shown: whether the daemon answers, and what it says.
func gather(ctx context.Context, socket string, log *slog.Logger) ([]*dto.MetricFamily, error) {
	up := prometheus.NewGauge(prometheus.GaugeOpts{Name: "fermata_up", Help: "1 if fermatad answered, 0 if not."})
	own := prometheus.NewRegistry()
	own.MustRegister(up)
	families, err := feed.Read(ctx, socket)
	if err == nil {
		up.Set(1)
	} else {
		log.Warn("no metrics", "error", err)
	}
	mine, err := own.Gather()
	return append(families, mine...), err
}

// handler answers a scrape.
func handler(socket string, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return gather(r.Context(), socket, log) })
		promhttp.HandlerFor(from, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), EnableOpenMetrics: true}).ServeHTTP(w, r)
	})
}

// listen opens host:port, or the absolute path of a socket, which replaces one that was left behind.
func listen(address string) (net.Listener, error) {
	if !strings.HasPrefix(address, "/") {
		return net.Listen("tcp", address)
	}
	if info, err := os.Lstat(address); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(address); err != nil {
			return nil, fmt.Errorf("cannot replace the socket: %w", err)
		}
	}
	return net.Listen("unix", address)
}

// serveHTTP serves until ctx ends.
func serveHTTP(ctx context.Context, listeners []net.Listener, handler http.Handler, webConfig string, log *slog.Logger) error {
	server := &http.Server{
		Handler: handler, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 64 << 10,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := web.ServeMultiple(listeners, server, &web.FlagConfig{WebConfigFile: &webConfig}, log)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// print writes the metrics as text.
func print(ctx context.Context, socket string, w io.Writer) error {
	families, err := feed.Read(ctx, socket)
	if err != nil {
		return err
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return err
		}
	}
	return nil
}

// writeTextfile writes them for node_exporter's textfile collector: one file in the place of the last one. What is not Fermata's own
// (go_, process_) is left out: node_exporter has the same of itself, and refuses it twice.
func writeTextfile(ctx context.Context, name, socket string, log *slog.Logger) error {
	return prometheus.WriteToTextfile(name, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := gather(ctx, socket, log)
		if len(families) > 0 { // that the daemon is not up is worth a file
			err = nil
		}
		foreign := func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), "fermata_") }
		return slices.DeleteFunc(families, foreign), err
	}))
}
