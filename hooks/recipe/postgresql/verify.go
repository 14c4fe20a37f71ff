package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

var _ recipe.Verifier = (*writer)(nil)

// Verify proves that a server can be had from the image: it recovers, as after a power cut; pg_amcheck then looks at all
// tables and indexes through a server, and pg_checksums at all pages, where the cluster has checksums. Both are left out
// where they are not to be had, and data says what was done.
func (w *writer) Verify(ctx context.Context, r hooks.Request) (map[string]any, error) {
	i, err := openImage(w.options, r)
	if err != nil {
		return nil, err
	}
	for _, name := range signals { // a standby would wait for its primary
		if i.standby {
			err = errors.Join(err, remove(filepath.Join(i.data, name)))
		}
	}
	if err == nil {
		err = i.recover(ctx, true)
	}
	if err != nil {
		return nil, err
	}
	checks := []string{"recovery"}
	var errs []error
	if i.has("pg_amcheck") {
		checks = append(checks, "pg_amcheck")
		errs = append(errs, i.amcheck(ctx))
	}
	state, err := i.control(ctx)
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	if state["Data page checksum version"] != "0" && i.has("pg_checksums") {
		checks = append(checks, "pg_checksums")
		_, err := i.run(ctx, "pg_checksums", "--check", "-D", i.data)
		errs = append(errs, err)
	}
	data := map[string]any{"checks": checks, "standby": i.standby}
	if len(checks) == 1 {
		data["warnings"] = []string{"neither pg_amcheck nor checksums are there: only recovery was proven"}
	}
	return data, errors.Join(errs...)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (i image) has(program string) bool {
	_, err := os.Stat(filepath.Join(i.programs, program))
	return err == nil
}

// amcheck has a server check itself. It installs the extension that this takes, in the image.
func (i image) amcheck(ctx context.Context) (err error) {
	socket, err := os.MkdirTemp("", "pg")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(socket)) }()
	access := filepath.Join(socket, "hba")
	if err := os.WriteFile(access, []byte("local all all trust\n"), 0o600); err != nil { // the folder is ours alone
		return err
	}
	server, err := i.program("postgres", append(i.settings(socket), "-F", "-c", "hba_file="+access)...).Start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(unix.SIGINT, stopLimit)) }()
	if err := i.awaitServer(ctx, server, socket); err != nil {
		return err
	}
	_, err = i.run(ctx, "pg_amcheck", "--all", "--install-missing", "--no-password", "-h", socket, "-p", "5432", "-U", i.superuser)
	return err
}

// startLimit is how long a server may take that has nothing to recover.
const startLimit = time.Minute

func (i image) awaitServer(ctx context.Context, server *recipe.Running, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	dsn := "host=" + socket + " port=5432 dbname=postgres sslmode=disable user='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(i.superuser) + "'"
	for {
		conn, err := pgconn.Connect(ctx, dsn)
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-server.Exited:
			_, err := server.Wait(ctx)
			return fmt.Errorf("the server on the image ended: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the server on the image lets nobody in: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stopLimit is how long a server may take to end that has nobody to serve.
const stopLimit = time.Minute
