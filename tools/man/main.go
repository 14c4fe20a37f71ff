// Command man makes the man pages from what there is: the command lines (the hidden verb reference), the pages in docs, and, for
// the programs that have no page there, docs/man.
//
//	man -fermata FILE -writer FILE [-docs DIR] [-version V] -out DIR
//
// FILE is what the verb reference of fermata and of fermata-writer has printed. SOURCE_DATE_EPOCH is the pages' date.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

func main() {
	fermata := flag.String("fermata", "", "the verbs of fermata")
	writer := flag.String("writer", "", "the verbs of fermata-writer")
	docs := flag.String("docs", "docs", "folder of the documentation")
	version := flag.String("version", "", "version of Fermata")
	out := flag.String("out", "", "folder for the pages")
	flag.Parse()
	if err := run(*fermata, *writer, *docs, *version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func run(fermata, writer, docs, version, out string) error {
	verbs, err := readVerbs(fermata)
	if err != nil {
		return err
	}
	recipes, err := readVerbs(writer)
	if err != nil {
		return err
	}
	date, err := date(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return err
	}
	all, err := pages(docs, verbs, recipes)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, p := range all {
		roff := tidy(string(md2man.Render([]byte(p.markdown(date, version)))))
		if err := os.WriteFile(filepath.Join(out, p.file()), []byte(roff), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func readVerbs(file string) (verb, error) {
	var v verb
	text, err := os.ReadFile(file)
	if err != nil {
		return v, err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return v, fmt.Errorf("cannot read %s: %w", file, err)
	}
	if len(v.Verbs) == 0 {
		return v, errors.New(file + " has no verbs")
	}
	return v, nil
}

// date is the day of a number of seconds, today without one.
func date(epoch string) (string, error) {
	when := time.Now()
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return "", fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
		}
		when = time.Unix(seconds, 0)
	}
	return when.UTC().Format(time.DateOnly), nil
}

// tidy takes out empty lines, which man prints beside those that it makes itself, except in examples, and asks for ragged lines: few
// words stand beside long names.
func tidy(roff string) string {
	var out strings.Builder
	example, before := false, ""
	for line := range strings.Lines(strings.TrimSpace(roff) + "\n") {
		switch {
		case strings.HasPrefix(line, ".EX"):
			example = true
			if !strings.HasPrefix(before, ".") {
				out.WriteString(".sp\n")
			}
		case strings.HasPrefix(line, ".EE"):
			example = false
		case line == "\n" && !example:
			continue
		}
		out.WriteString(line)
		before = line
		if strings.HasPrefix(line, ".TH") {
			out.WriteString(".ad l\n")
		}
	}
	return out.String()
}
