package mysql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

var _ recipe.Verifier = (*writer)(nil)

// Verify proves that a server can be had from the image: it recovers, as after a power cut, and checks all its tables.
func (w *writer) Verify(ctx context.Context, r hooks.Request) (map[string]any, error) {
	i, err := openImage(ctx, w.options, r)
	if err != nil {
		return nil, err
	}
	tables := 0
	err = i.serve(ctx, func(s *session) (err error) {
		tables, err = checkTables(ctx, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{"checks": []string{"recovery", "CHECK TABLE"}, "tables": tables}, nil
}

// maxDamaged bounds how many damaged tables an error names.
const maxDamaged = 10

// checkTables has the server check all tables that have files, and returns how many there are.
func checkTables(ctx context.Context, s *session) (int, error) {
	rows, err := s.query(ctx, "SELECT TABLE_SCHEMA AS folder, TABLE_NAME AS name FROM information_schema.TABLES "+
		"WHERE TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW', 'TEMPORARY') AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema')")
	if err != nil {
		return 0, fmt.Errorf("cannot list the tables: %w", err)
	}
	var errs []error
	for _, r := range rows {
		name := quoted(r["folder"]) + "." + quoted(r["name"])
		said, err := s.query(ctx, "CHECK TABLE "+name)
		if err != nil { // the server may be gone, of what it has found
			return len(rows), errors.Join(append(errs, fmt.Errorf("cannot check table %s: %w", name, err))...)
		}
		if err := verdict(said); err != nil {
			errs = append(errs, fmt.Errorf("table %s: %w", name, err))
		}
		if len(errs) == maxDamaged {
			return len(rows), errors.Join(append(errs, errors.New("and perhaps more"))...)
		}
	}
	return len(rows), errors.Join(errs...)
}

// verdict is nil if CHECK TABLE found a table good. A warning is none the less: "the table was not closed" is of a power cut.
func verdict(rows []row) error {
	for _, r := range rows {
		kind := strings.ToLower(r["msg_type"])
		if kind == "error" || kind == "status" && r["msg_text"] != "OK" && r["msg_text"] != "Table is already up to date" {
			return fmt.Errorf("it is damaged: %s", r["msg_text"])
		}
	}
	return nil
}

// quoted is an identifier for SQL.
func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }
