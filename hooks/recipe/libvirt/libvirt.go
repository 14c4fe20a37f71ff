// Package libvirt is the recipe for a virtual machine whose guest agent freezes its filesystems, by virsh(1): domfsfreeze and
// domfsthaw. It is for sets of the volumes that a guest's disks are on, taken on the machine's host.
//
// The guest agent runs the guest's own hooks before it freezes. It says how many filesystems it froze, and later how many
// were still frozen when it thawed them: that is the proof of the hold, together with the domain's id, which a restart
// changes.
package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/fermata-project/fermata/hooks"
	"github.com/fermata-project/fermata/hooks/recipe"
)

// DefaultURI is the connection to the host's own machines.
const DefaultURI = "qemu:///system"

// closeLimit bounds the thaw when the session ends without one.
const closeLimit = time.Minute

// Options name a domain.
type Options struct {
	URI    string // of the connection; default DefaultURI
	Domain string // name or UUID
	Virsh  string // the program; default: virsh, looked up in PATH
}

// Domain is one virtual machine.
type Domain struct {
	o        Options
	uuid, id string
	frozen   int  // filesystems
	begun    bool // a freeze was begun, and nothing was thawed since
}

// New is the recipe for a domain.
func New(o Options) (*Domain, error) {
	if o.Domain == "" || strings.HasPrefix(o.Domain, "-") || strings.ContainsRune(o.Domain, 0) {
		return nil, fmt.Errorf("%q is no name of a domain", o.Domain)
	}
	if o.URI == "" {
		o.URI = DefaultURI
	}
	if o.Virsh == "" {
		o.Virsh = "virsh"
	}
	path, err := exec.LookPath(o.Virsh)
	if err != nil {
		return nil, fmt.Errorf("cannot find virsh: %w (Debian: libvirt-clients)", err)
	}
	o.Virsh = path
	return &Domain{o: o}, recipe.Trusted(path)
}

var _ recipe.Recipe = (*Domain)(nil)

// Prepare finds out whether the domain runs and its agent answers.
func (d *Domain) Prepare(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	state, err := d.word(ctx, "domstate")
	if err != nil {
		return nil, err
	}
	switch state {
	case "running":
	case "shut off":
		return nil, recipe.Inactive(fmt.Errorf("domain %s is shut off", d.o.Domain))
	default: // paused, for instance: its guest has data in memory, and cannot be asked for them
		return nil, fmt.Errorf("domain %s is neither running nor shut off, but %s", d.o.Domain, state)
	}
	if d.uuid, err = d.word(ctx, "domuuid"); err != nil {
		return nil, err
	}
	if d.id, err = d.word(ctx, "domid"); err != nil {
		return nil, err
	}
	if _, err = d.virsh(ctx, "domfsinfo"); err != nil {
		return nil, fmt.Errorf("the guest agent of domain %s does not answer: %w (is qemu-guest-agent running in it, and its channel configured?)", d.o.Domain, err)
	}
	return map[string]any{"domain": d.o.Domain, "uuid": d.uuid, "id": d.id}, nil
}

// Freeze has the guest freeze its filesystems.
func (d *Domain) Freeze(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if d.id == "" {
		return nil, errors.New("not prepared")
	}
	d.begun = true // libvirt finishes what a killed virsh has asked for
	out, err := d.virsh(ctx, "domfsfreeze")
	if err != nil {
		return nil, err
	}
	if d.frozen, err = count("Froze", out); err != nil {
		return nil, err
	}
	if d.frozen == 0 {
		return nil, fmt.Errorf("the guest agent of domain %s froze no filesystem", d.o.Domain)
	}
	return map[string]any{"frozen": d.frozen}, nil
}

// Thaw has the guest thaw, and tells whether everything had been frozen until then.
func (d *Domain) Thaw(ctx context.Context, _ hooks.Request) (map[string]any, error) {
	if !d.begun {
		return nil, nil
	}
	thawed, err := d.thaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hooks.ErrHoldLost, err)
	}
	if thawed < d.frozen {
		return nil, fmt.Errorf("%w: of %d filesystems that the guest agent froze only %d were still frozen", hooks.ErrHoldLost, d.frozen, thawed)
	}
	id, err := d.word(ctx, "domid")
	if err == nil && id != d.id {
		err = fmt.Errorf("domain %s was restarted: its id was %s and is %s", d.o.Domain, d.id, id)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", hooks.ErrHoldLost, err)
	}
	return map[string]any{"thawed": thawed}, nil
}

// thaw thaws; that nothing was frozen any more is no error.
func (d *Domain) thaw(ctx context.Context) (thawed int, err error) {
	out, err := d.virsh(ctx, "domfsthaw")
	if err != nil {
		return 0, err
	}
	d.begun = false
	return count("Thawed", out)
}

// Abort thaws what Thaw has not.
func (d *Domain) Abort(ctx context.Context, _ hooks.Request) error {
	if !d.begun {
		return nil
	}
	_, err := d.thaw(ctx)
	return err
}

// Post does nothing.
func (d *Domain) Post(context.Context, hooks.Request) (map[string]any, error) { return nil, nil }

// Close thaws what is left, when the daemon has died for instance.
func (d *Domain) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	return d.Abort(ctx, hooks.Request{})
}

// virsh runs one of its commands on the domain. What is asked after prepare is asked by UUID: a name can be given away.
func (d *Domain) virsh(ctx context.Context, command string) (string, error) {
	domain := d.o.Domain
	if d.uuid != "" {
		domain = d.uuid
	}
	return recipe.Run(ctx, d.o.Virsh, "--connect", d.o.URI, command, "--domain", domain)
}

// word is the answer of a command that prints one line.
func (d *Domain) word(ctx context.Context, command string) (string, error) {
	out, err := d.virsh(ctx, command)
	word := strings.TrimSpace(out)
	if err == nil && (word == "" || strings.ContainsRune(word, '\n')) {
		err = fmt.Errorf("cannot understand what virsh %s said: %q", command, out)
	}
	return word, err
}

var counted = regexp.MustCompile(`^(Froze|Thawed) (\d{1,6}) filesystem\(s\)$`)

// count reads "Froze N filesystem(s)" and "Thawed N filesystem(s)".
func count(verb, out string) (int, error) {
	m := counted.FindStringSubmatch(strings.TrimSpace(out))
	if m == nil || m[1] != verb {
		return 0, fmt.Errorf("cannot understand what virsh said: %q", out)
	}
	return strconv.Atoi(m[2])
}
