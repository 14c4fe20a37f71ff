package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// parts are what a guest is put together from.
type parts struct {
	cache      string
	repository string
	kernel     kernel
	image      string
	programs   string // empty: none to install
}

// prepare fetches and builds what is missing for a guest.
func prepare(ctx context.Context, o options) (parts, error) {
	var p parts
	cwd, err := os.Getwd()
	if err != nil {
		return p, err
	}
	if p.repository, err = findRepository(cwd); err != nil {
		return p, err
	}
	if p.cache, err = cacheDir(os.Getenv); err != nil {
		return p, err
	}
	if p.kernel, err = prepareKernel(ctx, p.cache, o.kernel); err != nil {
		return p, err
	}
	if p.image, err = prepareImage(ctx, p.cache); err != nil {
		return p, err
	}
	if o.programs {
		if err := require(ctx, imageNeeds[1]); err != nil {
			return p, err
		}
		p.programs, err = preparePrograms(ctx, p.cache, p.repository)
	}
	return p, err
}

// findRepository goes up from dir to the project's root: the directory that has
// both go.mod and the lab's package list.
func findRepository(dir string) (string, error) {
	for d := dir; ; d = filepath.Dir(d) {
		if exists(filepath.Join(d, "go.mod")) && exists(filepath.Join(d, "lab", "packages.txt")) {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("cannot find the project's repository: %s is not inside it", dir)
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
