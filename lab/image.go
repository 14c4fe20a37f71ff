package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// imageRelease is the Debian of the guests' userland.
const imageRelease = "bookworm"

// imageRecipe changes whenever what buildImage makes of the same inputs changes.
const imageRecipe = "1"

// keptImages is how many images stay in the cache, of a gigabyte each.
const keptImages = 2

//go:embed packages.txt
var packageList string

//go:embed image/setup.sh
var imageSetup string

// Files that no guest needs, and that would make the image half as large again.
var imageExcludes = []string{
	"/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*",
	"/usr/share/javascript/*", "/usr/share/nodejs/*", "/usr/share/groff/*", "/usr/share/lintian/*",
	"/usr/share/icons/*", "/usr/share/mysql-test/*",
}

// prepareImage gives the file of the guests' root filesystem, built if it is not
// in the cache: an ext2 image, so that owners and modes in the guest are the
// same whoever built it.
func prepareImage(ctx context.Context, cache string) (string, error) {
	packages := parsePackages(packageList)
	name := "image-" + hashOf(imageRecipe, imageRelease, strings.Join(packages, "\n"), imageSetup,
		strings.Join(imageExcludes, "\n")) + ".ext2"
	return once(cache, name, func(path string) error {
		say("building the guests' image (about a minute)")
		if err := buildImage(ctx, cache, path, packages); err != nil {
			return fmt.Errorf("cannot build the guests' image: %w", err)
		}
		return prune(filepath.Join(cache, "image-*.ext2"), keptImages-1)
	})
}

// parsePackages reads a package list: a name a line, comments after #.
func parsePackages(text string) []string {
	var packages []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		packages = append(packages, strings.Fields(line)...)
	}
	return packages
}

func buildImage(ctx context.Context, cache, path string, packages []string) error {
	needs := append(fetchNeeds[:len(fetchNeeds):len(fetchNeeds)], imageNeeds...)
	if os.Geteuid() != 0 {
		needs = append(needs, userNeeds...)
	}
	if err := require(ctx, needs...); err != nil {
		return err
	}
	m, err := hostMirror(ctx)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, ".image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	sources := filepath.Join(work, "sources.list")
	if err := os.WriteFile(sources, []byte(m.sources(imageRelease)), 0o644); err != nil {
		return err
	}
	dump, err := tool(ctx, nil, "apt-config", "dump")
	if err != nil {
		return fmt.Errorf("cannot read the host's apt settings: %w", err)
	}
	archive := filepath.Join(work, "root.tar")
	args := bootstrapArguments(archive, sources, packages, fetchSettings(dump))
	if _, err := tool(ctx, nil, "mmdebstrap", args...); err != nil {
		return err
	}
	return packTar(ctx, archive, path)
}

// bootstrapArguments is mmdebstrap's command line. The setup script goes there as
// text: in an ordinary user's namespace its file could not be read.
func bootstrapArguments(archive, sources string, packages, settings []string) []string {
	args := []string{
		"--variant=apt", "--format=tar",
		"--include=" + strings.Join(packages, ","),
		`--aptopt=APT::Install-Recommends "false"`,
		"--customize-hook=" + imageSetup,
	}
	for _, s := range settings {
		args = append(args, "--aptopt="+s)
	}
	for _, e := range imageExcludes {
		args = append(args, "--dpkgopt=path-exclude="+e)
	}
	return append(args, imageRelease, archive, sources)
}

// packTar makes an ext2 image of a tar archive. The image has room for a little
// more than its contents, which nobody adds to: guests mount it read-only.
func packTar(ctx context.Context, archive, path string) error {
	info, err := os.Stat(archive)
	if err != nil {
		return err
	}
	list, err := exec.CommandContext(ctx, "tar", "--list", "--file", archive).Output()
	if err != nil {
		return fmt.Errorf("cannot list the image's files: %w", err)
	}
	return packImage(ctx, path, info.Size(), strings.Count(string(list), "\n"), "--tarball", archive)
}

// packImage runs genext2fs for contents of so many bytes in so many files.
func packImage(ctx context.Context, path string, bytes int64, files int, source ...string) error {
	const blockSize = 4096
	blocks := bytes/blockSize + bytes/blockSize/16 + int64(files) + 2048
	args := append([]string{
		"--block-size", strconv.Itoa(blockSize),
		"--size-in-blocks", strconv.FormatInt(blocks, 10),
		"--number-of-inodes", strconv.Itoa(files + files/16 + 256),
	}, source...)
	_, err := tool(ctx, nil, "genext2fs", append(args, path)...)
	return err
}
