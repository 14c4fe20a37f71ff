package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// programDirs says where the guest has each of the project's programs; the
// others go to the last.
var programDirs = map[string]string{
	"fermata":                "/usr/bin",
	"fermata-writer":         "/usr/bin",
	"fermata-generator":      "/usr/lib/systemd/system-generators",
	"fermata-provider-array": "/usr/lib/fermata/providers",
	"fermata-provider-btrfs": "/usr/lib/fermata/providers",
}

const otherProgramsDir = "/usr/libexec/fermata"

// installList describes, in the repository, what a package installs beside the
// programs.
const installList = "systemd/install.txt"

// keptProgramImages is how many images of the programs stay in the cache: one
// for each of the last few states of the source.
const keptProgramImages = 4

// An installed file is a file of the host and its place in the guest.
type installed struct {
	source, destination string
	mode                fs.FileMode
}

// preparePrograms builds the project's programs and gives an ext2 image that has
// them, with the units and policies that belong to them, where a package would
// install them. It gives an empty name if there is nothing to install yet.
func preparePrograms(ctx context.Context, cache, repository string) (string, error) {
	dir := filepath.Join(cache, "programs", hashOf(repository))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot make the cache: %w", err)
	}
	unlock, err := lockFile(filepath.Join(dir, ".lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	files, err := buildPrograms(ctx, filepath.Join(dir, "bin"), repository)
	if err != nil {
		return "", err
	}
	listed, err := readInstallList(repository)
	if err != nil {
		return "", err
	}
	files = append(files, listed...)
	if len(files) == 0 {
		return "", nil
	}
	stamp, err := stampOf(files)
	if err != nil {
		return "", err
	}
	image, err := once(dir, stamp+".ext2", func(path string) error {
		if err := packFiles(ctx, path, files); err != nil {
			return fmt.Errorf("cannot pack the programs: %w", err)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return image, prune(filepath.Join(dir, "*.ext2"), keptProgramImages)
}

// buildPrograms builds cmd/... into dir and gives what it made.
func buildPrograms(ctx context.Context, dir, repository string) ([]installed, error) {
	commands, err := os.ReadDir(filepath.Join(repository, "cmd"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot build the programs: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot build the programs: %w", err)
	}
	// -C must come first among go build's flags; a directory as -o keeps names.
	if _, err := tool(ctx, []string{"CGO_ENABLED=0", "GOFLAGS="}, "go", "build", "-C", repository,
		"-trimpath", "-buildvcs=false", "-o", dir+"/", "./cmd/..."); err != nil {
		return nil, fmt.Errorf("cannot build the programs (--no-programs boots without them): %w", err)
	}
	var files []installed
	for _, c := range commands {
		source := filepath.Join(dir, c.Name())
		if _, err := os.Stat(source); err != nil {
			continue // not a program, or not one any more
		}
		place := otherProgramsDir
		if d, ok := programDirs[c.Name()]; ok {
			place = d
		}
		files = append(files, installed{source, path.Join(place, c.Name()), 0o755})
	}
	return files, nil
}

// readInstallList reads installList, if the repository has one.
func readInstallList(repository string) ([]installed, error) {
	text, err := os.ReadFile(filepath.Join(repository, installList))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", installList, err)
	}
	files, err := parseInstallList(string(text))
	for i := range files {
		files[i].source = filepath.Join(repository, files[i].source)
	}
	return files, err
}

// parseInstallList reads lines "SOURCE DESTINATION MODE": a file of the
// repository, an absolute path of the guest, an octal mode. # starts a comment.
func parseInstallList(text string) ([]installed, error) {
	var files []installed
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 3 {
			return nil, fmt.Errorf("%s:%d: want SOURCE DESTINATION MODE", installList, number)
		}
		mode, err := strconv.ParseUint(fields[2], 8, 12)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s:%d: bad mode %q", installList, number, fields[2])
		case !filepath.IsLocal(fields[0]):
			return nil, fmt.Errorf("%s:%d: %q is not a file of the repository", installList, number, fields[0])
		case !path.IsAbs(fields[1]) || path.Clean(fields[1]) != fields[1]:
			return nil, fmt.Errorf("%s:%d: %q is not a clean absolute path", installList, number, fields[1])
		}
		files = append(files, installed{fields[0], merged(fields[1]), fs.FileMode(mode)})
	}
	return files, nil
}

// merged gives a path's place in a system whose /bin, /lib and /sbin are links
// to those in /usr, as Debian's are: a directory of an overlay would hide the
// link below it.
func merged(name string) string {
	for _, dir := range []string{"/bin/", "/sbin/", "/lib/", "/lib64/"} {
		if strings.HasPrefix(name, dir) {
			return "/usr" + name
		}
	}
	return name
}

// stampOf names a state of the files: what and where they are, how long, and
// when they were last changed.
func stampOf(files []installed) (string, error) {
	var state []string
	for _, f := range files {
		info, err := os.Stat(f.source)
		if err != nil {
			return "", fmt.Errorf("cannot install %s: %w", f.destination, err)
		}
		state = append(state, fmt.Sprint(f, info.Size(), info.ModTime().UnixNano()))
	}
	return hashOf(state...), nil
}

// packFiles makes an image of the files, all owned by root.
func packFiles(ctx context.Context, image string, files []installed) error {
	tree, err := os.MkdirTemp(filepath.Dir(image), ".tree-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	var total int64
	for _, f := range files {
		data, err := os.ReadFile(f.source)
		if err != nil {
			return err
		}
		target := filepath.Join(tree, f.destination)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, data, 0o644); err != nil {
			return err
		}
		if err := os.Chmod(target, f.mode); err != nil {
			return err
		}
		total += int64(len(data))
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		return err
	}
	return packImage(ctx, image, total, 8*len(files), "--squash-uids", "--root", tree)
}
