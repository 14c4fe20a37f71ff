//go:build lab

package system

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fermata-project/fermata/lab/labtest"
)

// postgres is a running cluster with somebody committing to it.
type postgres struct {
	commits atomic.Int64
	err     atomic.Value
}

// startPostgres runs a cluster on a volume until the end of the test.
func startPostgres(t testing.TB, point string) *postgres {
	t.Helper()
	data := filepath.Join(point, "pg")
	bin := "/usr/lib/postgresql/15/bin/"
	labtest.Run(t, "install", "-d", "-o", "postgres", "-m", "0700", data)
	as := func(argv ...string) { labtest.Run(t, append([]string{"runuser", "-u", "postgres", "--"}, argv...)...) }
	as(bin+"initdb", "-D", data, "--no-sync", "--auth=trust")
	if err := os.MkdirAll("/run/postgresql", 0o777); err != nil {
		t.Fatal(err)
	}
	labtest.Run(t, "chown", "postgres", "/run/postgresql")
	as(bin+"pg_ctl", "-D", data, "-w", "-l", filepath.Join(data, "log"), "-o", "-c listen_addresses= -c shared_buffers=16MB", "start")
	ctx, cancel := context.WithCancel(context.Background())
	p := &postgres{}
	ended := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-ended
		as(bin+"pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
	})
	conn, err := pgx.Connect(ctx, "host=/run/postgresql user=postgres dbname=postgres")
	if err != nil {
		close(ended)
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "create table t (n bigint)"); err != nil {
		close(ended)
		t.Fatal(err)
	}
	go func() {
		defer close(ended)
		defer conn.Close(context.Background())
		for ctx.Err() == nil {
			if _, err := conn.Exec(ctx, "insert into t values ($1)", p.commits.Load()); err != nil {
				if ctx.Err() == nil {
					p.err.Store(err)
				}
				return
			}
			p.commits.Add(1)
		}
	}()
	return p
}

// committing fails the test unless new commits come through.
func (p *postgres) committing(t testing.TB) {
	t.Helper()
	from := p.commits.Load()
	eventually(t, "PostgreSQL commits", func() bool { return p.commits.Load() > from+2 || p.err.Load() != nil })
	if err := p.err.Load(); err != nil {
		t.Errorf("PostgreSQL: %v", err)
	}
}

// dataPercent is how full vg/pool is.
func dataPercent(t testing.TB) float64 {
	t.Helper()
	out := strings.Fields(labtest.Run(t, "dmsetup", "status", "--noflush", "vg-pool-tpool"))
	used, total, _ := strings.Cut(out[5], "/")
	u, err1 := strconv.ParseFloat(used, 64)
	n, err2 := strconv.ParseFloat(total, 64)
	if err1 != nil || err2 != nil {
		t.Fatalf("cannot read the pool's status: %q", out)
	}
	return 100 * u / n
}
