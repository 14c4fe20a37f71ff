package systemd

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"

	"github.com/fermata-project/fermata/daemon/api"
)

// options of a unit file: "Section.Name" to values.
func options(t *testing.T, name string) map[string][]string {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := unit.DeserializeOptions(f)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	m := map[string][]string{}
	for _, o := range list {
		m[o.Section+"."+o.Name] = append(m[o.Section+"."+o.Name], o.Value)
	}
	return m
}

// What the rest of the project relies on. Each line was wrong once in somebody's unit.
func TestUnits(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"fermatad.service": {
			"Service.Type": "notify", "Service.BusName": api.BusName, "Service.ExecStart": "/usr/libexec/fermata/fermatad",
			"Service.Restart": "on-failure", "Service.RestartSec": "100ms", "Service.WatchdogSec": "150s", "Service.TimeoutStartSec": "10min",
			"Service.OOMScoreAdjust": "-900", "Service.LimitMEMLOCK": "infinity", "Service.KillMode": "process",
			"Service.RuntimeDirectory": "fermata", "Service.RuntimeDirectoryPreserve": "yes",
			"Unit.Wants": "dbus.socket fermata-guard.socket", "Unit.After": "dbus.socket fermata-guard.socket",
		},
		"fermata-guard.service": {
			"Service.Type": "notify", "Service.ExecStart": "/usr/libexec/fermata/fermata-guard", "Service.Restart": "always",
			"Service.OOMScoreAdjust": "-1000", "Service.LimitMEMLOCK": "infinity", "Service.KillMode": "process",
			"Service.SendSIGKILL": "no", "Unit.StopWhenUnneeded": "no",
		},
		"fermata-policy@.service": {"Service.ExecStart": "/usr/bin/fermata policy run -- %i"},
		"fermata-guard.socket": {
			"Socket.ListenSequentialPacket": "/run/fermata/guard.sock", "Socket.SocketMode": "0600", "Install.WantedBy": "sockets.target",
		},
	} {
		got := options(t, name)
		for key, value := range want {
			if !slices.Equal(got[key], []string{value}) {
				t.Errorf("%s: %s is %q, want %q", name, key, got[key], value)
			}
		}
	}
}

// An option that gives a service a mount namespace of its own hides its mounts from the host; one that makes a directory
// on the root keeps it from starting while that is frozen; one that ties the guard to the daemon lets it die with it; systemd 252 does not know some newer ones.
func TestUnitsLeaveOut(t *testing.T) {
	namespace := []string{"ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ReadWritePaths",
		"ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem",
		"ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "ProtectProc", "ProcSubset",
		"ProtectClock", "MountFlags", "DynamicUser", "RootDirectory", "RootImage", "PrivateIPC", "MountAPIVFS"}
	for _, name := range []string{"fermatad.service", "fermata-guard.service"} {
		got := options(t, name)
		directories := []string{"StateDirectory", "ConfigurationDirectory", "CacheDirectory", "LogsDirectory"} // made on a frozen root
		for _, o := range slices.Concat(namespace, directories, []string{"RestartMode"}) {
			if got["Service."+o] != nil {
				t.Errorf("%s has %s", name, o)
			}
		}
		if got["Service.RestrictRealtime"] != nil {
			t.Errorf("%s may not be urgent", name)
		}
		if slices.Contains(got["Service.Type"], "notify-reload") {
			t.Errorf("%s has a type that systemd 252 does not know", name)
		}
		for _, o := range []string{"BindsTo", "PartOf", "Requires", "Requisite"} {
			if got["Unit."+o] != nil {
				t.Errorf("%s has %s", name, o)
			}
		}
	}
}

// modes of files that are not 0644, by their directory.
var modes = map[string]string{"/usr/libexec/fermata": "0755"}

// Every file here is installed, and install.txt says nothing else.
func TestInstallIsComplete(t *testing.T) {
	text, err := os.ReadFile("install.txt")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	destinations := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) != 3 || !filepath.IsAbs(fields[1]) || fields[2] != modes[filepath.Dir(fields[1])] && fields[2] != "0644" || destinations[fields[1]] {
			t.Errorf("install.txt: %q", line)
			continue
		}
		destinations[fields[1]] = true
		if name, ok := strings.CutPrefix(fields[0], "systemd/"); ok {
			listed = append(listed, name)
		} else if _, err := os.Stat(filepath.Join("..", fields[0])); err != nil {
			t.Errorf("install.txt: %v", err)
		}
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var present []string
	for _, e := range entries {
		if n := e.Name(); !e.IsDir() && n != "install.txt" && !strings.HasSuffix(n, ".go") {
			present = append(present, n)
		}
	}
	slices.Sort(listed)
	if !slices.Equal(listed, present) {
		t.Errorf("install.txt lists %q, there are %q", listed, present)
	}
}

func TestXML(t *testing.T) {
	for _, name := range []string{api.BusName + ".conf", "org.fermata.fermata1.policy"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(strings.NewReader(string(text)))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Errorf("%s: %v", name, err)
				break
			}
		}
	}
}

// The bus asks systemd to start the unit that owns the name.
func TestActivation(t *testing.T) {
	got := options(t, api.BusName+".service")
	for key, value := range map[string]string{"D-BUS Service.Name": api.BusName, "D-BUS Service.SystemdService": "fermatad.service", "D-BUS Service.User": "root"} {
		if !slices.Equal(got[key], []string{value}) {
			t.Errorf("%s is %q, want %q", key, got[key], value)
		}
	}
}

// Every action that the bus asks polkit about is declared, and no other.
func TestPolkitActions(t *testing.T) {
	text, err := os.ReadFile("org.fermata.fermata1.policy")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Actions []struct {
			ID       string `xml:"id,attr"`
			Defaults struct {
				Any string `xml:"allow_any"`
			} `xml:"defaults"`
		} `xml:"action"`
	}
	if err := xml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, a := range doc.Actions {
		ids = append(ids, strings.TrimPrefix(a.ID, "org.fermata.fermata1."))
		if a.Defaults.Any == "yes" {
			t.Errorf("%s is allowed to anybody", a.ID)
		}
	}
	if want := []string{"create", "quiesce", "use", "delete", "mount", "resize", "extend-pool", "verify", "report", "pin", "prune", "configure", "register-writer", "read"}; !slices.Equal(ids, want) {
		t.Errorf("actions %q, want %q", ids, want)
	}
}
