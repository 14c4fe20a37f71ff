package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/fermata-project/fermata/daemon/metrics/feed"
)

var quiet = slog.New(slog.DiscardHandler)

// daemon feeds as fermatad does, until the test ends or stop is called.
func daemon(t *testing.T) (socket string, stop func()) {
	t.Helper()
	r := prometheus.NewRegistry()
	sets := prometheus.NewGauge(prometheus.GaugeOpts{Name: "fermata_snapshot_sets", Help: "sets"})
	sets.Set(7)
	r.MustRegister(sets, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	socket = filepath.Join(t.TempDir(), "metrics.sock")
	stop = running(t, func(ctx context.Context) error { return feed.Serve(ctx, socket, feed.Metrics(r), quiet) })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		switch _, err := feed.Read(t.Context(), socket); {
		case err == nil:
			return socket, stop
		case time.Now().After(end):
			t.Fatal(err)
		}
	}
}

// running runs something until the test ends, or it is stopped.
func running(t *testing.T, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

// certificate is one of 127.0.0.1's own, and the files of it and its key.
func certificate(t *testing.T) (pool *x509.CertPool, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return pool, file(t, "cert.pem", string(certPEM)), file(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The hash is bcrypt's, of "correct horse".
const users = "basic_auth_users: {prometheus: $2a$04$oQ4XTHaC5vaCLOgBOdRVyuJsZohomiFxwQ0NfW1pSZD.Jc2zz5LxS}\n"

// With a web configuration nobody reads without its TLS, nor without a password of its.
func TestTLSAndPassword(t *testing.T) {
	socket, _ := daemon(t)
	trusted, cert, key := certificate(t)
	webConfig := file(t, "web.yaml", "tls_server_config: {cert_file: "+cert+", key_file: "+key+"}\n"+users)
	l, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running(t, func(ctx context.Context) error {
		return serveHTTP(ctx, []net.Listener{l}, handler(socket, quiet), webConfig, quiet)
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	for _, c := range []struct {
		scheme, user, password string
		status                 int
	}{
		{"https", "prometheus", "correct horse", http.StatusOK},
		{"https", "prometheus", "wrong", http.StatusUnauthorized},
		{"https", "nobody", "correct horse", http.StatusUnauthorized},
		{"https", "", "", http.StatusUnauthorized},
		{"http", "prometheus", "correct horse", http.StatusBadRequest},
	} {
		q, err := http.NewRequestWithContext(t.Context(), "GET", c.scheme+"://"+l.Addr().String()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.user != "" {
			q.SetBasicAuth(c.user, c.password)
		}
		a, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a.Body)
		a.Body.Close()
		told := strings.Contains(string(body), "\nfermata_snapshot_sets 7\n") && strings.Contains(string(body), "\nfermata_up 1\n")
		if err != nil || a.StatusCode != c.status || told != (c.status == http.StatusOK) {
			t.Errorf("%+v: %s, %v: %.300s", c, a.Status, err, body)
		}
	}
}

// What cannot be understood does not mean no TLS and no password.
func TestBadWebConfig(t *testing.T) {
	for name, text := range map[string]string{
		"no certificate": "tls_server_config: {cert_file: /nonexistent, key_file: /nonexistent}\n",
		"no such key":    "tls: {}\n",
		"no hash":        "basic_auth_users: {prometheus: secret}\n",
	} {
		l, err := listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := serveHTTP(ctx, []net.Listener{l}, http.NotFoundHandler(), file(t, "web.yaml", text), quiet); err == nil {
			t.Errorf("%s: it serves", name)
		}
		cancel()
		l.Close()
	}
}

// The file holds what is Fermata's, so that node_exporter can show it beside what it says of itself; and that the daemon is down.
func TestTextfile(t *testing.T) {
	socket, stop := daemon(t)
	name := filepath.Join(t.TempDir(), "fermata.prom")
	written := func() string {
		t.Helper()
		if err := writeTextfile(t.Context(), name, socket, quiet); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	got := written()
	for line := range strings.Lines(got) {
		if !strings.HasPrefix(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), "fermata_") {
			t.Errorf("this is not Fermata's: %s", line)
		}
	}
	if !strings.Contains(got, "\nfermata_snapshot_sets 7\n") || !strings.Contains(got, "\nfermata_up 1\n") {
		t.Errorf("written:\n%s", got)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("node_exporter cannot read it: %v, %v", info.Mode(), err)
	}
	stop()
	if got := written(); strings.Contains(got, "fermata_snapshot_sets") || !strings.Contains(got, "\nfermata_up 0\n") {
		t.Errorf("written while the daemon is down:\n%s", got)
	}
}
