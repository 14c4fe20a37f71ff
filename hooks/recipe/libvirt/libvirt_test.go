package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

const uuid = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"

// fake is a virsh that notes its arguments and says what is in a file of the command's name, by default what virsh 9.0 says of
// a guest with two filesystems. It fails where that file ends with the word "fail", and hangs at "hang".
type fake struct {
	t   *testing.T
	dir string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t, t.TempDir()}
	text := `#!/bin/sh
echo "$@" >>DIR/log
said=DIR/$3
case $(tail -n 1 "$said") in
fail) echo "error: Guest agent is not responding: QEMU guest agent is not connected" >&2; exit 1 ;;
hang) sleep 60 ;;
esac
cat "$said"
`
	if err := os.WriteFile(filepath.Join(f.dir, "virsh"), []byte(strings.ReplaceAll(text, "DIR", f.dir)), 0o755); err != nil {
		t.Fatal(err)
	}
	for command, said := range map[string]string{
		"domstate": "running\n\n", "domuuid": uuid + "\n\n", "domid": "3\n\n",
		"domfsinfo":   " Mountpoint   Name   Type   Target\n-----\n /   vda1   ext4   vda\n\n",
		"domfsfreeze": "Froze 2 filesystem(s)\n\n", "domfsthaw": "Thawed 2 filesystem(s)\n\n",
	} {
		f.say(command, said)
	}
	return f
}

func (f *fake) say(command, said string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, command), []byte(said), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// commands that were given since the last time.
func (f *fake) commands() []string {
	b, err := os.ReadFile(filepath.Join(f.dir, "log"))
	if err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(f.dir, "log"))
	var out []string
	for line := range strings.Lines(string(b)) {
		out = append(out, strings.TrimSpace(line))
	}
	return out
}

func (f *fake) domain() *Domain {
	f.t.Helper()
	d, err := New(Options{Domain: "shop", Virsh: filepath.Join(f.dir, "virsh")})
	if err != nil {
		f.t.Fatal(err)
	}
	return d
}

// frozen is a domain that is prepared and frozen.
func (f *fake) frozen() *Domain {
	f.t.Helper()
	d := f.domain()
	if _, err := d.Prepare(f.t.Context(), hooks.Request{}); err != nil {
		f.t.Fatal(err)
	}
	if _, err := d.Freeze(f.t.Context(), hooks.Request{}); err != nil {
		f.t.Fatal(err)
	}
	return d
}

func on(domain string, commands ...string) []string {
	var out []string
	for _, c := range commands {
		out = append(out, fmt.Sprintf("--connect qemu:///system %s --domain %s", c, domain))
	}
	return out
}

func TestExactCommands(t *testing.T) {
	f := newFake(t)
	d := f.domain()
	ctx := t.Context()
	data, err := d.Prepare(ctx, hooks.Request{})
	if err != nil || data["uuid"] != uuid || data["id"] != "3" {
		t.Fatalf("got %v, %v", data, err)
	}
	want := slices.Concat(on("shop", "domstate", "domuuid"), on(uuid, "domid", "domfsinfo"))
	if got := f.commands(); !slices.Equal(got, want) {
		t.Errorf("prepare ran %q, want %q", got, want)
	}
	data, err = d.Freeze(ctx, hooks.Request{})
	if err != nil || data["frozen"] != 2 {
		t.Fatalf("got %v, %v", data, err)
	}
	if got := f.commands(); !slices.Equal(got, on(uuid, "domfsfreeze")) {
		t.Errorf("freeze ran %q", got)
	}
	data, err = d.Thaw(ctx, hooks.Request{})
	if err != nil || data["thawed"] != 2 {
		t.Fatalf("got %v, %v", data, err)
	}
	if got := f.commands(); !slices.Equal(got, on(uuid, "domfsthaw", "domid")) {
		t.Errorf("thaw ran %q", got)
	}
	if _, err := d.Post(ctx, hooks.Request{}); err != nil {
		t.Error(err)
	}
	if err := errors.Join(d.Abort(ctx, hooks.Request{}), d.Close()); err != nil {
		t.Error(err)
	}
	if got := f.commands(); len(got) > 0 {
		t.Errorf("afterwards it ran %q", got)
	}
}

func TestPrepareRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ command, said, err string }{
		"shut off":     {"domstate", "shut off\n", "is shut off"},
		"paused":       {"domstate", "paused\n", "neither running nor shut off, but paused"},
		"no domain":    {"domstate", "fail", "error:"},
		"no agent":     {"domfsinfo", "fail", "is qemu-guest-agent running"},
		"two lines":    {"domid", "3\n4\n", "cannot understand"},
		"says nothing": {"domuuid", "\n", "cannot understand"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.say(tt.command, tt.said)
			d := f.domain()
			_, err := d.Prepare(t.Context(), hooks.Request{})
			if err == nil || !strings.Contains(err.Error(), tt.err) || recipe.IsInactive(err) != (name == "shut off") {
				t.Errorf("got %v", err)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			if got := f.commands(); slices.ContainsFunc(got, func(c string) bool { return strings.Contains(c, "thaw") }) {
				t.Errorf("what was not frozen was thawed: %q", got)
			}
		})
	}
	for _, name := range []string{"", "--all", "a\x00b"} {
		if _, err := New(Options{Domain: name, Virsh: "/bin/true"}); err == nil {
			t.Errorf("domain %q was taken", name)
		}
	}
	if _, err := New(Options{Domain: "shop", Virsh: "/nonexistent/virsh"}); err == nil || !strings.Contains(err.Error(), "libvirt-clients") {
		t.Errorf("no virsh: %v", err)
	}
}

// A freeze that fails, is not understood, froze nothing or does not end: it may all the same have happened, and is thawed.
func TestFreezeFails(t *testing.T) {
	for name, said := range map[string]string{"fails": "fail", "hangs": "hang", "nonsense": "ok\n", "another verb": "Thawed 2 filesystem(s)\n", "nothing": "Froze 0 filesystem(s)\n"} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.say("domfsfreeze", said)
			f.say("domfsthaw", "Thawed 0 filesystem(s)\n")
			d := f.domain()
			if _, err := d.Prepare(t.Context(), hooks.Request{}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			if _, err := d.Freeze(ctx, hooks.Request{}); err == nil {
				t.Error("it holds")
			}
			f.commands()
			if _, err := d.Thaw(t.Context(), hooks.Request{}); err != nil {
				t.Error(err)
			}
			if got := f.commands(); len(got) == 0 || got[0] != on(uuid, "domfsthaw")[0] {
				t.Errorf("ran %q", got)
			}
		})
	}
}

func TestLostHolds(t *testing.T) {
	for name, tt := range map[string]struct{ command, said, err string }{
		"somebody thawed":   {"domfsthaw", "Thawed 1 filesystem(s)\n", "only 1 were still frozen"},
		"nothing is frozen": {"domfsthaw", "Thawed 0 filesystem(s)\n", "only 0 were still frozen"},
		"the agent is gone": {"domfsthaw", "fail", "not responding"},
		"restarted":         {"domid", "4\n", "its id was 3 and is 4"},
		"shut off since":    {"domid", "-\n", "its id was 3 and is -"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			d := f.frozen()
			f.say(tt.command, tt.said)
			if _, err := d.Thaw(t.Context(), hooks.Request{}); !errors.Is(err, hooks.ErrHoldLost) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What is left frozen is thawed when the session ends, also after a thaw that failed.
func TestCloseThaws(t *testing.T) {
	f := newFake(t)
	d := f.frozen()
	f.say("domfsthaw", "fail")
	if _, err := d.Thaw(t.Context(), hooks.Request{}); err == nil {
		t.Error("it says that it has thawed")
	}
	f.say("domfsthaw", "Thawed 2 filesystem(s)\n")
	f.commands()
	if err := errors.Join(d.Close(), d.Close()); err != nil {
		t.Error(err)
	}
	if got := f.commands(); !slices.Equal(got, on(uuid, "domfsthaw")) {
		t.Errorf("ran %q", got)
	}
}
