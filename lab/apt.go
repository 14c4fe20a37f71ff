package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mirror is where the host itself gets Debian from.
type mirror struct {
	archive  string // URI of the main archive
	security string // URI of the security archive, or empty
	keyring  string // file of the keys that sign them, or empty for apt's own choice
}

const archiveKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// hostMirror asks apt which mirror the host uses, so that the lab fetches from
// wherever this machine is allowed to.
func hostMirror(ctx context.Context) (mirror, error) {
	out, err := tool(ctx, nil, "apt-get", "indextargets", "--no-release-info",
		"--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages")
	if err != nil {
		return mirror{}, fmt.Errorf("cannot read the host's apt sources: %w", err)
	}
	m, err := chooseMirror(out)
	if err != nil {
		return m, err
	}
	if _, err := os.Stat(archiveKeyring); err == nil {
		m.keyring = archiveKeyring
	}
	return m, nil
}

// suites are the names under which Debian's releases may stand in a host's
// sources.
var suites = map[string]bool{
	"bullseye": true, "bookworm": true, "trixie": true, "forky": true, "sid": true,
	"oldoldstable": true, "oldstable": true, "stable": true, "testing": true, "unstable": true,
}

// chooseMirror takes the archives from lines "URI RELEASE COMPONENT". A foreign
// repository gives itself away by its release or component.
func chooseMirror(targets string) (mirror, error) {
	var m mirror
	for line := range strings.Lines(targets) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "main" {
			continue
		}
		uri, release := fields[0], fields[1]
		name, security := strings.CutSuffix(release, "-security")
		name, oldSecurity := strings.CutSuffix(name, "/updates")
		switch {
		case !suites[name]:
		case (security || oldSecurity) && m.security == "":
			m.security = uri
		case !security && !oldSecurity && m.archive == "":
			m.archive = uri
		}
	}
	if m.archive == "" {
		return m, fmt.Errorf("cannot find a Debian mirror in the host's apt sources: the lab needs a Debian host")
	}
	return m, nil
}

// sources is the text of a sources.list(5) for one release of Debian from the
// mirror.
func (m mirror) sources(release string) string {
	option := ""
	if m.keyring != "" {
		option = "[signed-by=" + m.keyring + "] "
	}
	text := fmt.Sprintf("deb %s%s %s main\n", option, m.archive, release)
	if m.security != "" {
		text += fmt.Sprintf("deb %s%s %s-security main\n", option, m.security, release)
	}
	return text
}

// download fetches packages of a release into dir, with a state of apt's own
// there: neither root nor the host's own lists are needed.
func (m mirror) download(ctx context.Context, release, dir string, packages ...string) error {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return fmt.Errorf("cannot prepare apt's state: %w", err)
		}
	}
	for name, text := range map[string]string{"sources.list": m.sources(release), "state/status": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("cannot prepare apt's state: %w", err)
		}
	}
	options := []string{
		"-q",
		"-o", "Dir::State=" + filepath.Join(dir, "state"),
		"-o", "Dir::State::status=" + filepath.Join(dir, "state/status"),
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"-o", "Dir::Etc::sourcelist=" + filepath.Join(dir, "sources.list"),
		"-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::Etc::preferencesparts=-",
		"-o", "APT::Sandbox::User=", // the directory may be its user's alone
		"-o", "Acquire::Languages=none",
	}
	if _, err := tool(ctx, nil, "apt-get", append(options, "update")...); err != nil {
		return fmt.Errorf("cannot read the package lists of %s: %w", release, err)
	}
	// apt-get download writes to the working directory.
	args := append([]string{"-C", dir, "apt-get"}, append(append(options, "download"), packages...)...)
	if _, err := tool(ctx, nil, "env", args...); err != nil {
		return fmt.Errorf("cannot download %s of %s: %w", strings.Join(packages, " and "), release, err)
	}
	return nil
}

// fetchSettings gives the host's settings of apt that decide whether and how a
// fetch works: proxies, dates, retries. They are lines of apt.conf(5), out of
// what `apt-config dump` prints.
func fetchSettings(dump string) []string {
	var settings []string
	for line := range strings.Lines(dump) {
		line = strings.TrimSpace(line)
		if strings.HasSuffix(line, ` "";`) {
			continue // a group, or unset
		}
		for _, prefix := range []string{"Acquire::http::", "Acquire::https::", "Acquire::Check-", "Acquire::Retries "} {
			if strings.HasPrefix(line, prefix) {
				settings = append(settings, line)
			}
		}
	}
	return settings
}
