package feed

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fermata-project/fermata/daemon/api"
)

func serve(t *testing.T, document func(io.Writer) error) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "metrics.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"}) // by an earlier daemon, and nobody hears it
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- Serve(ctx, socket, document, slog.New(slog.NewTextHandler(io.Discard, nil))) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return socket
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h_seconds", Help: "h", Buckets: []float64{1, 2}, NativeHistogramBucketFactor: 1.1})
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "c_total", Help: "c"})
	r.MustRegister(h, c)
	h.Observe(1.5)
	c.Add(7)
	return r
}

func TestFeed(t *testing.T) {
	socket := serve(t, Metrics(registry()))
	// Some that connect and read nothing must not keep the others from reading.
	for range readers - 1 {
		c, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			got, err := Read(t.Context(), socket)
			if err != nil || len(got) != 2 {
				t.Errorf("%v, %v", got, err)
				return
			}
			if c := got[0].Metric[0].Counter; c.GetValue() != 7 {
				t.Errorf("the counter is %v", c)
			}
			h := got[1].Metric[0].Histogram
			if len(h.Bucket) != 2 || len(h.PositiveSpan) == 0 {
				t.Errorf("the histogram is not both classic and native: %v", h)
			}
		})
	}
	wg.Wait()
}

func TestNobodyFeeds(t *testing.T) {
	if _, err := Read(t.Context(), filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("read from nobody")
	}
	// One that says nothing, and one that ends in the middle.
	for _, text := range []string{"", "\x05ab", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for range 2 {
				if c, err := l.Accept(); err == nil {
					io.WriteString(c, text)
					c.Close()
				}
			}
		}()
		if got, err := Read(t.Context(), l.Addr().String()); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
		if got, err := ReadOverview(t.Context(), l.Addr().String()); err == nil {
			t.Errorf("%q was read as %v", text, got)
		}
		l.Close()
	}
}

func TestOverview(t *testing.T) {
	socket := serve(t, Overview(func() api.Overview {
		return api.Overview{Host: "h<>", Sets: []api.Manifest{{ID: "s", Phases: []api.Phase{{Name: "arm", Duration: 7}}}}}
	}))
	o, err := ReadOverview(t.Context(), socket)
	if err != nil || o.Host != "h<>" || o.Sets[0].Phases[0].Duration != 7 {
		t.Errorf("%+v, %v", o, err)
	}
	failing := serve(t, func(io.Writer) error { return errors.New("no") })
	if o, err := ReadOverview(t.Context(), failing); err == nil {
		t.Errorf("read %+v from one that fails", o)
	}
}
