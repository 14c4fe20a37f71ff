package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

var _ recipe.Verifier = (*writer)(nil)

// check is what a database is asked for; 20 is how many faults it names.
const check = "PRAGMA integrity_check(20);"

// Verify has SQLite check all databases. Opening them is all the recovery that they need, and it is done by that.
func (w *writer) Verify(ctx context.Context, r hooks.Request) (map[string]any, error) {
	paths, gone, err := inImage(w.options, r)
	if err != nil {
		return nil, err
	}
	var folders []recipe.Place
	for _, path := range paths {
		folders = append(folders, recipe.Place{What: "database " + filepath.Base(path) + " in", Path: filepath.Dir(path)})
	}
	if err := recipe.OnStage(folders); err != nil {
		return nil, err
	}
	program, err := recipe.FindProgram(w.options.BinDirectory, "sqlite3")
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, path := range paths {
		if err := verify(ctx, program, path); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
		if ctx.Err() != nil {
			break // none of the others would get any further
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	data := map[string]any{"checks": []string{"integrity_check"}, "databases": len(paths)}
	if len(gone) > 0 {
		data["warnings"] = []string{"there when the set was prepared, and not in it: " + strings.Join(gone, ", ")}
	}
	return data, nil
}

// inImage are the databases in the image: those that are found now, and those that prepare has found, for a pattern finds none
// that is damaged in its first bytes. gone are those of which there is no file any more.
func inImage(o Options, r hooks.Request) (paths, gone []string, err error) {
	if paths, err = find(o); err != nil {
		return nil, nil, err
	}
	prepared, _ := r.Prepared["paths"].([]any)
	for _, p := range prepared {
		path, ok := p.(string)
		if !ok || slices.Contains(paths, path) {
			continue
		}
		switch _, err := os.Lstat(path); {
		case err == nil:
			paths = append(paths, path)
		case errors.Is(err, fs.ErrNotExist):
			gone = append(gone, path)
		default:
			return nil, nil, err
		}
	}
	return paths, gone, nil
}

// verify is nil if SQLite finds no fault in a database.
func verify(ctx context.Context, program, path string) error {
	owner, err := recipe.OwnerOf(path)
	if err != nil {
		return err
	}
	args := []string{"-batch", "-bail", "-init", "/dev/null", "-cmd", "PRAGMA trusted_schema=OFF", path, check}
	said, err := recipe.Program{Path: program, Args: args, Credential: owner}.Run(ctx)
	if err != nil {
		return err
	}
	if said = strings.TrimSpace(said); said != "ok" {
		return fmt.Errorf("it is damaged: %s", strings.ReplaceAll(said, "\n", " | "))
	}
	return nil
}
