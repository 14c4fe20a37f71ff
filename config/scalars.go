package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

const maxPath = 4095 // bytes: PATH_MAX of <linux/limits.h> without its final zero

// text reads a text of at most most bytes that passes the checks.
func text(kind string, most int, checks ...func(string) error) reader[string] {
	return scalar(kind, func(s string) (string, error) {
		if len(s) > most {
			return "", fmt.Errorf("%s is too long: %d bytes, at most %d", quote(s), len(s), most)
		}
		if strings.ContainsRune(s, 0) {
			return "", fmt.Errorf("%s contains a zero byte", quote(s))
		}
		for _, check := range checks {
			if err := check(s); err != nil {
				return "", err
			}
		}
		return s, nil
	})
}

func notEmpty(s string) error {
	if s == "" {
		return errors.New("the text is empty")
	}
	return nil
}

var namePattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$`)

// checkName is the rule for names of policies, writers, providers and components: they become parts
// of folder names, LVM tags and metrics, and arguments of commands, which would take -h for an option.
func checkName(s string) error {
	if !namePattern.MatchString(s) {
		return fmt.Errorf("%s is no name: 1 to 64 of A-Z, a-z, 0-9, - and _ are allowed, the first not -", quote(s))
	}
	return nil
}

func nameText() reader[string] { return text("a name", maxPath, checkName) }

func checkAbsolute(s string) error {
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%s is not absolute: it must begin with /", quote(s))
	}
	if slices.Contains(strings.Split(s, "/"), "..") {
		return fmt.Errorf("%s contains ..: write the path without it", quote(s))
	}
	return nil
}

// pathText reads an absolute path and drops its superfluous slashes, so that equal paths are equal.
func pathText() reader[string] {
	return scalar("an absolute path", func(s string) (string, error) {
		if err := checkAbsolute(s); err != nil {
			return "", err
		}
		if len(s) > maxPath || strings.ContainsRune(s, 0) {
			return "", fmt.Errorf("%s is no path: at most %d bytes, none of them zero", quote(s), maxPath)
		}
		return filepath.Clean(s), nil
	})
}

// choice reads one of a few words.
func choice[T ~string](values ...T) reader[T] {
	words := make(map[string]T, len(values))
	for _, v := range values {
		words[string(v)] = v
	}
	return oneOf(words)
}

// oneOf reads one of a few words as the value that it stands for. YAML takes a bare null for no
// value; where null is one of the words, that is what was meant.
func oneOf[T any](words map[string]T) reader[T] {
	names := slices.Sorted(maps.Keys(words))
	kind := "one of " + strings.Join(names, ", ")
	word := scalar(kind, func(s string) (T, error) {
		v, ok := words[s]
		if !ok {
			return v, fmt.Errorf("%s is not %s%s", quote(s), kind, didYouMean(s, names))
		}
		return v, nil
	})
	return reader[T]{read: func(d *decoder, path string, n *yaml.Node, into *T) {
		if v, ok := words[n.Value]; ok && isNull(n) {
			*into = v
			return
		}
		word.read(d, path, n, into)
	}}
}

func boolean() reader[bool] { return oneOf(map[string]bool{"true": true, "false": false}) }

func logLevel() reader[slog.Level] {
	return oneOf(map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	})
}

func integer(least, most int) reader[int] {
	return scalar("a whole number", func(s string) (int, error) {
		i, err := strconv.Atoi(s)
		switch {
		case errors.Is(err, strconv.ErrSyntax):
			return 0, fmt.Errorf("%s is no whole number", quote(s))
		case err != nil || i < least || i > most:
			return 0, fmt.Errorf("%s is out of range: %d to %d", shorten(s), least, most)
		}
		return i, nil
	})
}

func duration(least, most time.Duration) reader[time.Duration] {
	return scalar("a duration", durationIn(least, most))
}

// durationOrZero is duration with 0 for "never".
func durationOrZero(least, most time.Duration) reader[time.Duration] {
	parse := durationIn(least, most)
	return scalar("a duration", func(s string) (time.Duration, error) {
		if s == "0" {
			return 0, nil
		}
		return parse(s)
	})
}

func durationIn(least, most time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := ParseDuration(s)
		if err == nil && (d < least || d > most) {
			err = fmt.Errorf("%s is out of range: %s to %s", shorten(s), formatDuration(least), formatDuration(most))
		}
		return d, err
	}
}

func space() reader[Space] { return scalar("a space", ParseSpace) }
