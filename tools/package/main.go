// Command package makes the .deb and the .rpm from what make install has put below a directory.
//
//	package -root DIR -version V [-arch amd64] [-docs DIR] [-changes FILE] -out DIR
//
// What the packages are called and need stands in nfpm.yaml, beside this file; what they do when they are installed, in scripts. With
// SOURCE_DATE_EPOCH everybody makes the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

type options struct {
	root, version, arch, docs, changes, out string
	date                                    time.Time
}

func main() {
	var o options
	flag.StringVar(&o.root, "root", "", "what make install has installed")
	flag.StringVar(&o.version, "version", "", "version of Fermata")
	flag.StringVar(&o.arch, "arch", "amd64", "architecture, in Go's words")
	flag.StringVar(&o.docs, "docs", "../docs", "folder of the documentation")
	flag.StringVar(&o.changes, "changes", "../CHANGELOG.md", "what has changed")
	flag.StringVar(&o.out, "out", "", "folder for the packages")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.root == "" || o.version == "" || o.out == "" {
		return errors.New("-root, -version and -out are needed")
	}
	seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	o.root = filepath.Clean(o.root)
	o.date = time.Unix(seconds, 0).UTC()
	made, err := os.MkdirTemp("", "fermata-package-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(made)
	for _, format := range []string{"deb", "rpm"} {
		if err := pack(o, format, filepath.Join(made, format)); err != nil {
			return fmt.Errorf("cannot make the %s: %w", format, err)
		}
	}
	return nil
}

// pack makes one package; made is a folder for files that are made for it.
func pack(o options, format, made string) error {
	config, err := nfpm.ParseFile(filepath.Join("package", "nfpm.yaml"))
	if err != nil {
		return err
	}
	info, err := config.Get(format)
	if err != nil {
		return err
	}
	info.Arch, info.MTime = o.arch, o.date
	info.Version = packageVersion(o.version, o.date)
	info.Description = strings.TrimSpace(info.Description)
	for _, script := range []*string{&info.Scripts.PostInstall, &info.Scripts.PreRemove, &info.Scripts.PostRemove} {
		*script = filepath.Join("package", *script)
	}
	if info.Contents, err = contents(o, format, made, info.Version); err != nil {
		return err
	}
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	path := filepath.Join(o.out, packager.ConventionalFileName(info))
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(packager.Package(info, f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	fmt.Println(path)
	return nil
}

// packageVersion is a version that dpkg and rpm can order, of what git describe says: a tag, a tag with the number of changes since, or
// only a change, which is older than any tag.
func packageVersion(described string, date time.Time) string {
	version := strings.TrimPrefix(described, "v")
	if version == "" || version[0] < '0' || version[0] > '9' || !strings.Contains(version, ".") {
		return "0~" + date.Format("20060102.150405") + "." + strings.ReplaceAll(described, "-", ".")
	}
	version, dirty := strings.CutSuffix(version, "-dirty")
	version = since.ReplaceAllString(version, "+$1.$2")
	version = strings.ReplaceAll(version, "-", "~") // v1.0.0-rc.1 comes before v1.0.0
	if dirty {
		version += "+dirty"
	}
	return version
}

var since = regexp.MustCompile(`-([0-9]+)-(g[0-9a-f]+)$`)
