package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const defaultKernel = "6.1"

// kernelReleases names the release of Debian whose user-mode-linux package has
// the kernel.
var kernelReleases = map[string]string{
	"5.10": "bullseye",
	"6.1":  "bookworm",
	"6.12": "trixie",
}

// kernelRecipe changes whenever what fetchKernel makes changes.
const kernelRecipe = "1"

func checkKernel(version string) error {
	if _, ok := kernelReleases[version]; !ok {
		return fmt.Errorf("no kernel %q: there are 5.10, 6.1 and 6.12", version)
	}
	return nil
}

// kernel is a User-Mode Linux kernel in the cache.
type kernel struct {
	dir     string // with the program and the libraries that it is linked against
	release string // as uname -r has it
	modules string // directory of its modules
}

// Names in a kernel's directory.
const (
	kernelProgram = "linux"
	kernelModules = "modules"
)

// prepareKernel gives a kernel, fetched if it is not in the cache.
func prepareKernel(ctx context.Context, cache, version string) (kernel, error) {
	dir, err := once(filepath.Join(cache, "kernels"), version+"-"+kernelRecipe, func(dir string) error {
		say("fetching kernel %s", version)
		if err := fetchKernel(ctx, dir, kernelReleases[version]); err != nil {
			return fmt.Errorf("cannot fetch kernel %s: %w", version, err)
		}
		return nil
	})
	if err != nil {
		return kernel{}, err
	}
	releases, err := os.ReadDir(filepath.Join(dir, kernelModules))
	if err != nil || len(releases) != 1 {
		return kernel{}, fmt.Errorf("cannot find the modules of kernel %s in %s: remove that directory and try again", version, dir)
	}
	release := releases[0].Name()
	return kernel{dir: dir, release: release, modules: filepath.Join(dir, kernelModules, release)}, nil
}

// fetchKernel makes dir out of the packages of a release of Debian: the kernel,
// its modules, and that release's own C library, because neither an older nor a
// newer host has the one that the kernel was linked against.
func fetchKernel(ctx context.Context, dir, release string) error {
	if err := require(ctx, fetchNeeds...); err != nil {
		return err
	}
	m, err := hostMirror(ctx)
	if err != nil {
		return err
	}
	work := filepath.Join(dir, "work")
	if err := os.MkdirAll(work, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := m.download(ctx, release, work, "user-mode-linux", "libc6"); err != nil {
		return err
	}
	packages, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil {
		return err
	}
	unpacked := filepath.Join(work, "unpacked")
	for _, p := range packages {
		if _, err := tool(ctx, nil, "dpkg-deb", "--extract", p, unpacked); err != nil {
			return fmt.Errorf("cannot unpack %s: %w", filepath.Base(p), err)
		}
	}
	program := filepath.Join(dir, kernelProgram)
	if err := os.Rename(filepath.Join(unpacked, "usr/bin/linux.uml"), program); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(unpacked, "usr/lib/uml/modules"), filepath.Join(dir, kernelModules)); err != nil {
		return err
	}
	libraries, err := relink(program)
	if err != nil {
		return err
	}
	return takeLibraries(unpacked, dir, libraries)
}

// The dynamic linker's name in a kernel's directory, and that directory's name
// in a guest's. Both are relative: see relink.
const (
	kernelLink   = "k"
	kernelLinker = kernelLink + "/ld.so"
)

// relink makes a program ask for its dynamic linker under a name that is
// relative to the working directory, so that it can run with a C library that
// stands beside it instead of the host's: the kernel opens the name as it is
// (fs/binfmt_elf.c, load_elf_binary), also when User-Mode Linux executes itself
// again. It gives the libraries that the program needs, the linker first.
func relink(program string) ([]string, error) {
	f, err := os.OpenFile(program, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	parsed, err := elf.NewFile(f)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", program, err)
	}
	needed, err := parsed.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", program, err)
	}
	i := slices.IndexFunc(parsed.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if i < 0 {
		return nil, fmt.Errorf("cannot relink %s: it is not dynamically linked", program)
	}
	interp := parsed.Progs[i]
	old := make([]byte, interp.Filesz)
	if _, err := interp.ReadAt(old, 0); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", program, err)
	}
	if len(kernelLinker) >= len(old) {
		return nil, fmt.Errorf("cannot relink %s: no room for the linker's name", program)
	}
	padded := append([]byte(kernelLinker), make([]byte, len(old)-len(kernelLinker))...)
	if _, err := f.WriteAt(padded, int64(interp.Off)); err != nil {
		return nil, fmt.Errorf("cannot relink %s: %w", program, err)
	}
	linker := filepath.Base(strings.TrimRight(string(old), "\x00"))
	return append([]string{linker}, slices.DeleteFunc(needed, func(s string) bool { return s == linker })...), f.Close()
}

// takeLibraries moves the named libraries from an unpacked package to dir, the
// first, the dynamic linker, under its own name there.
func takeLibraries(unpacked, dir string, names []string) error {
	for i, name := range names {
		found, err := findLibrary(unpacked, name)
		if err != nil {
			return err
		}
		data, err := os.ReadFile(found)
		if err != nil {
			return err
		}
		if i == 0 {
			name = filepath.Base(kernelLinker)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// findLibrary looks where Debian's releases have their C library.
func findLibrary(unpacked, name string) (string, error) {
	for _, pattern := range []string{"lib/*-linux-gnu/", "usr/lib/*-linux-gnu/", "lib64/", "usr/lib64/"} {
		if found, _ := filepath.Glob(filepath.Join(unpacked, pattern, name)); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("cannot find %s in the C library's package: %w", name, errors.ErrUnsupported)
}
