package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestCacheDir(t *testing.T) {
	for _, test := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"FERMATA_LAB_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"},
		{map[string]string{"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/fermata-lab"},
		{map[string]string{"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/fermata-lab"},
		{map[string]string{"HOME": "/h"}, "/h/.cache/fermata-lab"},
		{nil, ""},
	} {
		got, err := cacheDir(func(name string) string { return test.env[name] })
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%v: %q, %v, want %q", test.env, got, err, test.want)
		}
	}
}

func TestOnce(t *testing.T) {
	dir := t.TempDir()
	failing := errors.New("no")
	if _, err := once(dir, "x", func(path string) error {
		os.WriteFile(path, []byte("half"), 0o644)
		return failing
	}); !errors.Is(err, failing) {
		t.Errorf("error %v", err)
	}
	for range 2 {
		built := 0
		path, err := once(dir, "x", func(path string) error {
			built++
			return os.WriteFile(path, []byte("whole"), 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "whole" {
			t.Errorf("%s holds %q, %v after %d builds", path, text, err, built)
		}
	}
	if _, err := once(dir, "x", func(string) error { return failing }); err != nil {
		t.Errorf("built again: %v", err)
	}
}

func TestFindRepository(t *testing.T) {
	got, err := findRepository(mustGetwd(t))
	if err != nil || got != filepath.Dir(mustGetwd(t)) {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := findRepository(t.TempDir()); err == nil {
		t.Error("found one where none is")
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	for i, name := range []string{"b.x", "a.x", "c.x", "d.y"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(file, when, when); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		keep int
		want string
	}{{5, "a.x b.x c.x d.y"}, {2, "a.x c.x d.y"}, {0, "d.y"}} {
		if err := prune(filepath.Join(dir, "*.x"), test.keep); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(entries(t, dir), " "); got != test.want {
			t.Errorf("kept %q of %d, want %q", got, test.keep, test.want)
		}
	}
}
