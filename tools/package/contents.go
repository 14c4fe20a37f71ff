package main

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/goreleaser/nfpm/v2/files"
)

const (
	configDir = "/etc/fermata"
	docDir    = "/usr/share/doc/fermata"
)

// directories that the packages own although they may be empty.
var directories = []string{configDir, configDir + "/policies.d", configDir + "/writers.d", configDir + "/providers.d"}

// contents are all files of a package: those below root, and what is made of the documentation in made.
func contents(o options, format, made, version string) (files.Contents, error) {
	m := &maker{options: o, made: made, rpm: format == "rpm"}
	err := filepath.WalkDir(o.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		to := "/" + strings.TrimPrefix(strings.TrimPrefix(path, o.root), "/")
		if m.rpm {
			to = strings.Replace(to, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
		}
		if strings.HasPrefix(to, "/usr/share/man/") {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return m.write(to+".gz", compressed(data), 0o644)
		}
		m.add(path, to, info.Mode().Perm())
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := m.examples(); err != nil {
		return nil, err
	}
	if err := m.papers(version); err != nil {
		return nil, err
	}
	for _, dir := range directories {
		m.all = append(m.all, &files.Content{Destination: dir, Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Mode: 0o755, MTime: o.date}})
	}
	return m.all, nil
}

type maker struct {
	options
	made string
	rpm  bool
	all  files.Contents
}

func (m *maker) add(from, to string, mode fs.FileMode) {
	c := &files.Content{Source: from, Destination: to, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: mode, MTime: m.date}}
	switch {
	case strings.HasPrefix(to, "/etc/"):
		c.Type = files.TypeConfigNoReplace
	case m.rpm && (strings.HasPrefix(to, docDir) || strings.HasPrefix(to, "/usr/share/man/")):
		c.Type = files.TypeRPMDoc
	}
	m.all = append(m.all, c)
}

// write makes a file for a package.
func (m *maker) write(to string, data []byte, mode fs.FileMode) error {
	from := filepath.Join(m.made, to)
	if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(from, data, 0o644); err != nil {
		return err
	}
	m.add(from, to, mode)
	return nil
}

var example = regexp.MustCompile("(?s)\n```yaml\n# " + configDir + "/([a-z./-]+)\n(.*?)```\n")

// examples are those of docs/config.md, and of them, with nothing switched on, the configuration that is installed.
func (m *maker) examples() error {
	text, err := os.ReadFile(filepath.Join(m.docs, "config.md"))
	if err != nil {
		return err
	}
	for _, found := range example.FindAllStringSubmatch(string(text), -1) {
		if err := m.write(docDir+"/examples/"+found[1], []byte(found[2]), 0o644); err != nil {
			return err
		}
		if found[1] != "fermata.yaml" {
			continue
		}
		lines := strings.Split(strings.TrimSuffix(found[2], "\n"), "\n")
		head := "# The daemon's settings: see fermata.yaml(5). What stands here are the defaults.\n\n"
		if err := m.write(configDir+"/fermata.yaml", []byte(head+"#"+strings.Join(lines, "\n#")+"\n"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// papers are what the package's format wants besides.
func (m *maker) papers(version string) error {
	changes, err := os.ReadFile(m.changes)
	if err != nil {
		return err
	}
	if m.rpm {
		return m.write(docDir+"/CHANGELOG.md", changes, 0o644)
	}
	if err := m.write(docDir+"/changelog.gz", compressed(debianChanges(string(changes), version, m.date.Format("Mon, 02 Jan 2006 15:04:05 -0700"))), 0o644); err != nil {
		return err
	}
	copyright, err := os.ReadFile("package/copyright")
	if err != nil {
		return err
	}
	overrides, err := os.ReadFile("package/lintian-overrides")
	if err != nil {
		return err
	}
	if err := m.write(docDir+"/copyright", copyright, 0o644); err != nil {
		return err
	}
	return m.write("/usr/share/lintian/overrides/fermata", overrides, 0o644)
}

// debianChanges is Debian's form of the newest changes.
func debianChanges(changes, version, date string) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "fermata (%s) unstable; urgency=medium\n\n", version)
	_, newest, _ := strings.Cut(changes, "\n## ")
	newest, _, _ = strings.Cut(newest, "\n## ")
	for line := range strings.Lines(newest) {
		if text, ok := strings.CutPrefix(line, "- "); ok {
			out.WriteString(wrapped(text, "  * ", "    "))
		}
	}
	fmt.Fprintf(&out, "\n -- The Fermata Project <maintainers@fermata-project.example>  %s\n", date)
	return out.Bytes()
}

// wrapped is a text in lines of 80 characters at most.
func wrapped(text, first, rest string) string {
	var out strings.Builder
	line := first
	for i, word := range strings.Fields(text) {
		if i > 0 && len(line)+1+len(word) > 80 {
			out.WriteString(line + "\n")
			line = rest + word
			continue
		}
		if i > 0 {
			line += " "
		}
		line += word
	}
	return out.String() + line + "\n"
}

// compressed is gzip's, without time and name.
func compressed(data []byte) []byte {
	var out bytes.Buffer
	w, _ := gzip.NewWriterLevel(&out, gzip.BestCompression) // the level is a valid one
	_, _ = w.Write(data)                                    // to memory
	_ = w.Close()
	return out.Bytes()
}
