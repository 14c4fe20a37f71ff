// Package plugin makes a provider of a program: it starts the plug-in, speaks package protocol with it, and keeps the
// rest of Fermata safe from it.
//
// A process is started for every set, before the freeze window, and for everything else one that is kept for a while. A
// plug-in that dies, garbles its answer or answers late has failed; so has the set that needed it. What it holds (a lock,
// an array's consistency group) has to end with its process, which is killed.
//
// The truth about snapshots is the plug-in's: it lists them, half-made ones too, to whatever process of it is asked.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/plugin/protocol"
)

// Spec says how a plug-in is run.
type Spec struct {
	Name    string
	Command []string      // absolute path of the program, and its arguments
	Kind    provider.Kind // "": as the plug-in says
	User    string        // "": as the daemon
	Limits  Limits

	env []string // for tests
}

// Limits are how long an answer may take.
type Limits struct {
	Start  time.Duration // the handshake
	Query  time.Duration // what changes nothing
	Change time.Duration // what changes something
	Window time.Duration // each of the calls in the freeze window, which ends before the window's own limit in any case
}

// DefaultLimits are those of a plug-in that has no others.
var DefaultLimits = Limits{Start: 5 * time.Second, Query: 10 * time.Second, Change: 5 * time.Minute, Window: 2 * time.Second}

// Devices suspends device-mapper devices for plug-ins that ask for it.
type Devices interface {
	// Suspension prepares a device's suspend and resume, and the look at its state before each.
	Suspension(v provider.Volume) *provider.Suspension
	Suspended(dev dm.Dev) (bool, error)
}

// Options are what plug-ins share.
type Options struct {
	Devices Devices
	Log     *slog.Logger
	// Trust is nil for a program that only root can change.
	Trust func(path string) error
	// Idle is how long a process is kept for the next question; 0: 15 s.
	Idle time.Duration
}

// Provider is a plug-in as a provider.
type Provider struct {
	o        Options
	spec     Spec
	greeting protocol.Greeting
	pool     pool
	claims   claims

	mu   sync.Mutex
	sets map[*session]bool // the processes of sets that have not ended
}

// Start runs a plug-in for the handshake. What it returns also has those of package provider's optional interfaces that
// the plug-in is capable of.
func Start(ctx context.Context, spec Spec, o Options) (provider.Provider, error) {
	if o.Idle == 0 {
		o.Idle = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(spec.Command) == 0 || !filepath.IsAbs(spec.Command[0]) {
		return nil, fmt.Errorf("cannot use plug-in %s: its command is no absolute path", spec.Name)
	}
	if o.Trust != nil {
		if err := o.Trust(spec.Command[0]); err != nil {
			return nil, fmt.Errorf("cannot use plug-in %s: %w", spec.Name, err)
		}
	}
	p := &Provider{o: o, spec: spec}
	p.pool = pool{turn: make(chan struct{}, 1), open: p.session, idle: o.Idle}
	s, g, err := p.greet(ctx)
	if err != nil {
		return nil, err
	}
	p.greeting = g
	if p.spec.Kind == "" {
		p.spec.Kind = provider.Kind(g.Kind)
	}
	p.pool.give(s)
	return p.optional(), nil
}

// greet starts a process and shakes hands.
func (p *Provider) greet(ctx context.Context) (*session, protocol.Greeting, error) {
	s, err := open(p.spec, p.o.Log)
	if err != nil {
		return nil, protocol.Greeting{}, fmt.Errorf("cannot start plug-in %s: %w", p.spec.Name, err)
	}
	r, err := s.call(ctx, protocol.Hello, p.spec.Limits.Start, protocol.Params{Versions: []int{protocol.Version}})
	if err == nil {
		err = check(r.Hello)
		if err != nil {
			err = s.failed(protocol.Hello, err)
		}
	}
	if err != nil {
		return nil, protocol.Greeting{}, errors.Join(err, s.end())
	}
	return s, *r.Hello, nil
}

var (
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	versionPattern = regexp.MustCompile(`^[!-~]{1,64}$`)
)

// check reads a greeting.
func check(g *protocol.Greeting) error {
	switch {
	case g == nil:
		return errors.New("its answer has no greeting")
	case !namePattern.MatchString(g.Name):
		return fmt.Errorf("%q is no name", protocol.Printable(g.Name, 100))
	case !versionPattern.MatchString(g.Version):
		return fmt.Errorf("%q is no version", protocol.Printable(g.Version, 100))
	case g.Kind != string(provider.Hardware) && g.Kind != string(provider.Software):
		return fmt.Errorf("its kind is %q, neither hardware nor software", protocol.Printable(g.Kind, 100))
	case len(g.Capabilities) > 100:
		return errors.New("too many capabilities")
	}
	for _, c := range g.Capabilities {
		if !namePattern.MatchString(string(c)) {
			return fmt.Errorf("%q is no capability", protocol.Printable(string(c), 100))
		}
	}
	return nil
}

// session starts a process that is to do what the first one said.
func (p *Provider) session(ctx context.Context) (*session, error) {
	s, g, err := p.greet(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(g.Capabilities, p.greeting.Capabilities) || g.Kind != p.greeting.Kind {
		err := fmt.Errorf("plug-in %s has other capabilities than when the daemon started: restart fermatad", p.spec.Name)
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

func (p *Provider) can(c protocol.Capability) bool {
	return slices.Contains(p.greeting.Capabilities, c)
}

// Volatile reports whether the plug-in says so of itself.
func (p *Provider) Volatile() bool { return p.can(protocol.IsVolatile) }

func (p *Provider) Name() string        { return p.spec.Name }
func (p *Provider) Kind() provider.Kind { return p.spec.Kind }

// Version is the plug-in's own.
func (p *Provider) Version() string { return p.greeting.Version }

// Capabilities are what the plug-in said of itself at the handshake.
func (p *Provider) Capabilities() []string {
	var out []string
	for _, c := range p.greeting.Capabilities {
		out = append(out, string(c))
	}
	return out
}

// Close ends all of its processes, as the daemon's death would.
func (p *Provider) Close() error {
	p.mu.Lock()
	left := slices.Collect(maps.Keys(p.sets))
	p.sets = nil
	p.mu.Unlock()
	errs := []error{p.pool.close()}
	for _, s := range left {
		errs = append(errs, s.end())
	}
	return errors.Join(errs...)
}

// note keeps in mind that a set has a process.
func (p *Provider) note(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sets == nil {
		p.sets = map[*session]bool{}
	}
	p.sets[s] = true
}

func (p *Provider) forget(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sets, s)
}

// Claim asks the plug-in, unless it failed to answer a moment ago.
func (p *Provider) Claim(v provider.Volume) (provider.Claim, error) {
	if err := speakable(v); err != nil {
		return provider.Claim{}, err
	}
	if err := p.claims.resting(); err != nil {
		return provider.Claim{}, err
	}
	vol := toVolume(v)
	r, err := p.query(context.Background(), protocol.Claim, protocol.Params{Volume: &vol})
	var f *failure
	if errors.As(err, &f) && f.child == nil {
		return provider.Claim{}, f.cause // its own words why not
	}
	if err != nil {
		p.claims.rest(err)
		return provider.Claim{}, err
	}
	switch {
	case r.Claim == nil || checkName(r.Claim.Name) != nil:
		return provider.Claim{}, fmt.Errorf("plug-in %s failed at claim: its answer has no name for the volume", p.spec.Name)
	case r.Claim.Unheld && !p.can(protocol.MayUnhold):
		return provider.Claim{}, fmt.Errorf("plug-in %s failed at claim: unheld, and that is none of its capabilities", p.spec.Name)
	}
	return provider.Claim(*r.Claim), nil
}

func (p *Provider) Admit(ctx context.Context, vols []provider.Volume) error {
	_, err := p.query(ctx, protocol.Admit, protocol.Params{Volumes: toVolumes(vols)})
	return err
}

func (p *Provider) Snapshots(ctx context.Context) ([]provider.Snapshot, error) {
	r, err := p.query(ctx, protocol.Snapshots, protocol.Params{})
	if err != nil {
		return nil, err
	}
	snaps, err := p.fromSnapshots(r.Snapshots)
	if err != nil {
		return snaps, fmt.Errorf("plug-in %s failed at snapshots: %w", p.spec.Name, err)
	}
	return snaps, nil
}

// Mark tells the plug-in of finished snapshots only.
func (p *Provider) Mark(ctx context.Context, snaps []provider.Snapshot) error {
	finished := slices.DeleteFunc(slices.Clone(snaps), func(s provider.Snapshot) bool { return s.Armed || s.Scratch })
	return p.each(ctx, protocol.Mark, finished)
}

func (p *Provider) Delete(ctx context.Context, snaps []provider.Snapshot) error {
	return p.each(ctx, protocol.Delete, snaps)
}

// each asks for something to be done to snapshots, in portions that surely fit into a line.
func (p *Provider) each(ctx context.Context, m protocol.Method, snaps []provider.Snapshot) error {
	var errs []error
	for some := range slices.Chunk(snaps, 100) {
		_, err := p.change(ctx, m, protocol.Params{Snapshots: toSnapshots(some)})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *Provider) Expose(ctx context.Context, s provider.Snapshot) (string, error) {
	snap := toSnapshot(s)
	r, err := p.change(ctx, protocol.Expose, protocol.Params{Snapshot: &snap})
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(r.Device, "/dev/") || filepath.Clean(r.Device) != r.Device || len(r.Device) > maxName {
		return "", fmt.Errorf("plug-in %s failed at expose: %q is no path of a device", p.spec.Name, protocol.Printable(r.Device, 100))
	}
	return r.Device, nil
}

func (p *Provider) Hide(ctx context.Context, snaps []provider.Snapshot) error {
	var errs []error
	for _, s := range snaps {
		snap := toSnapshot(s)
		_, err := p.change(ctx, protocol.Hide, protocol.Params{Snapshot: &snap})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *Provider) query(ctx context.Context, m protocol.Method, params protocol.Params) (protocol.Result, error) {
	return p.pool.call(ctx, m, p.spec.Limits.Query, params)
}

func (p *Provider) change(ctx context.Context, m protocol.Method, params protocol.Params) (protocol.Result, error) {
	return p.pool.call(ctx, m, p.spec.Limits.Change, params)
}
