package main

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// unitReleases are the releases of Debian whose systemd reads the units: 247, which is the oldest that the packages ask for, 252, and
// 257.
var unitReleases = []string{"bullseye", "bookworm", "trixie"}

// unitRecipe changes whenever what fetchSystemd makes changes.
const unitRecipe = "1"

const unitDir = "/usr/lib/systemd/system"

// systemdPackages is systemd, and those whose units ours name.
var systemdPackages = []string{"systemd", "dbus"}

//go:embed image/verify.sh
var unitScript string

// verifyUnits has the systemd of each release read all units that a package installs, and those that the generator makes of a policy
// with every setting of a schedule. Any message is an error. What was read goes to out, a line for each release.
func verifyUnits(ctx context.Context, releases []string, out io.Writer) error {
	cwd, err := os.Getwd()
	if err != nil {
		return err
	}
	repository, err := findRepository(cwd)
	if err != nil {
		return err
	}
	cache, err := cacheDir(os.Getenv)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp(cache, ".units-")
	if err != nil {
		return fmt.Errorf("cannot verify the units: %w", err)
	}
	defer os.RemoveAll(work)
	files, err := buildPrograms(ctx, filepath.Join(work, "bin"), repository)
	if err != nil {
		return err
	}
	listed, err := readInstallList(repository)
	if err != nil {
		return err
	}
	files = append(files, listed...)
	for _, release := range releases {
		root, err := prepareSystemd(ctx, cache, release)
		if err != nil {
			return err
		}
		said, err := readUnits(ctx, root, filepath.Join(work, release), files)
		if err != nil {
			return fmt.Errorf("cannot have systemd of %s read the units: %w", release, err)
		}
		fmt.Fprintf(out, "%s: %s\n", release, said)
	}
	return nil
}

// prepareSystemd gives a directory with systemd of a release and what it needs, unpacked and not installed.
func prepareSystemd(ctx context.Context, cache, release string) (string, error) {
	return once(filepath.Join(cache, "systemd"), release+"-"+unitRecipe, func(dir string) error {
		say("fetching systemd of Debian's %s", release)
		if err := fetchSystemd(ctx, dir, release); err != nil {
			return fmt.Errorf("cannot fetch systemd of Debian's %s; does the mirror that this host's apt uses have that suite? %w", release, err)
		}
		return nil
	})
}

func fetchSystemd(ctx context.Context, dir, release string) error {
	needs := append(fetchNeeds[:len(fetchNeeds):len(fetchNeeds)], imageNeeds[0])
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
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	sources, archive := dir+".list", dir+".tar"
	defer os.Remove(archive)
	defer os.Remove(sources)
	if err := os.WriteFile(sources, []byte(m.sources(release)), 0o644); err != nil {
		return err
	}
	dump, err := tool(ctx, nil, "apt-config", "dump")
	if err != nil {
		return fmt.Errorf("cannot read the host's apt settings: %w", err)
	}
	args := []string{
		"--variant=extract", "--format=tar", "--include=" + strings.Join(systemdPackages, ","),
		`--aptopt=APT::Install-Recommends "false"`,
		// Units that are links lead elsewhere unless /lib is /usr/lib.
		`--setup-hook=cd "$1" && for d in bin sbin lib lib64; do mkdir -p "usr/$d"; ln -sfT "usr/$d" "$d"; done`,
	}
	for _, s := range fetchSettings(dump) {
		args = append(args, "--aptopt="+s)
	}
	if _, err := tool(ctx, nil, "mmdebstrap", append(args, release, archive, sources)...); err != nil {
		return err
	}
	_, err = tool(ctx, nil, "tar", "--extract", "--no-same-owner", "--exclude=./dev/*", "--directory", dir, "--file", archive)
	return err
}

// samplePolicy has every setting of a schedule.
const samplePolicy = "volumes: [/srv]\nschedule: {at: [daily, 'Mon..Fri 8..18:0/15'], randomized_delay: 30s, persistent: false, on_failure: tell@%n.service}\n"

// readUnits installs the files in a copy of root, and has its systemd read the units. What it returns says which version read how many.
func readUnits(ctx context.Context, root, tree string, files []installed) (string, error) {
	if _, err := tool(ctx, nil, "cp", "-al", root, tree); err != nil { // links: nothing of root is changed
		return "", err
	}
	put := func(name string, data []byte, mode os.FileMode) error {
		target := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, data, mode)
	}
	for _, f := range files {
		data, err := os.ReadFile(f.source)
		if err != nil {
			return "", err
		}
		if err := put(f.destination, data, f.mode); err != nil {
			return "", err
		}
	}
	for name, text := range map[string]string{
		"/etc/fermata/policies.d/db.yaml": samplePolicy,
		unitDir + "/tell@.service":        "[Service]\nType=oneshot\nExecStart=/bin/true\n", // somebody's
		"/canary.service":                 "[Service]\nType=oneshot\nExecStart=/bin/true\nNoSuchThing=1\n",
	} {
		if err := put(name, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	units := unitsOf(files)
	unshare := []string{"--mount", "sh", "-euc", unitScript, "sh", tree}
	if os.Geteuid() != 0 {
		unshare = append([]string{"--map-root-user"}, unshare...)
	}
	version, err := tool(ctx, nil, "unshare", append(unshare, units...)...)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s: %d units and those of the generator, no message", strings.TrimSpace(version), len(units)), nil
}

// unitsOf are the paths of the units among files, of the policy's instance where they are templates.
func unitsOf(files []installed) []string {
	var units []string
	for _, f := range files {
		if path.Dir(f.destination) == unitDir {
			units = append(units, strings.Replace(f.destination, "@.", "@db.", 1))
		}
	}
	slices.Sort(units)
	return units
}
