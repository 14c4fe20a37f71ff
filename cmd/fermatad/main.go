// Command fermatad is the Fermata daemon: it takes snapshot sets for whoever asks on the system bus. systemd starts it,
// or the bus on demand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/config"
	"github.com/fermata-project/fermata/config/ownership"
	"github.com/fermata-project/fermata/daemon"
	"github.com/fermata-project/fermata/daemon/bus"
	"github.com/fermata-project/fermata/daemon/metrics"
	"github.com/fermata-project/fermata/daemon/metrics/feed"
	"github.com/fermata-project/fermata/daemon/pools"
	"github.com/fermata-project/fermata/daemon/pools/acts"
	"github.com/fermata-project/fermata/daemon/writers"
	"github.com/fermata-project/fermata/dm"
	"github.com/fermata-project/fermata/dm/lvm"
	"github.com/fermata-project/fermata/dm/provider"
	"github.com/fermata-project/fermata/dm/provider/clone"
	"github.com/fermata-project/fermata/dm/provider/plugin"
	"github.com/fermata-project/fermata/fsfreeze/guard"
	"github.com/fermata-project/fermata/hooks/child"
	"github.com/fermata-project/fermata/hooks/recipe/unit"
	"github.com/fermata-project/fermata/systemd"
	"github.com/fermata-project/fermata/systemd/journald"
)

// version is set by the linker.
var version = "(devel)"

func main() {
	dir := flag.String("config", config.Dir, "directory of the configuration")
	run := flag.String("run", "/run/fermata", "directory of what does not outlive a reboot")
	flag.Parse()
	systemd.Undisturbed()
	err := serve(*dir, *run)
	if errors.Is(err, errReload) { // as the same process, so that systemd sees no end of it
		err = unix.Exec(os.Args[0], os.Args, os.Environ())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fermatad:", err)
		os.Exit(1)
	}
}

// errReload ends the daemon so that it begins anew, with another configuration.
var errReload = errors.New("the configuration is read anew")

// check says what is wrong with a configuration that is to be read.
func check(dir string) error {
	c, err := config.Load(dir)
	if err != nil {
		return err
	}
	if faults := c.Problems.Errors(); len(faults) > 0 {
		return faults
	}
	return nil
}

func serve(dir, run string) error {
	// A thread that waits in the kernel must not keep the others from running, however few processors there are.
	runtime.GOMAXPROCS(max(4, runtime.NumCPU()))
	ctx, stop := untilStopped()
	defer stop()

	c, err := config.Load(dir)
	if err != nil {
		return err
	}
	log := slog.New(journald.New(os.Stderr, &slog.HandlerOptions{Level: c.Daemon.LogLevel, ReplaceAttr: withoutTime}))
	aloneErr := daemon.Alone(run) // before anything is touched that another one may have in use
	if errors.Is(aloneErr, daemon.ErrNotAlone) {
		return aloneErr
	} else if aloneErr != nil {
		log.Warn("starting all the same", "error", aloneErr)
	}
	if in, err := child.Contained(); err != nil {
		log.Warn("what a writer or a plug-in leaves running outside its process group is not found again", "error", err)
	} else {
		log.Debug("writers and plug-ins run in cgroups of their own", "below", in)
	}
	control, err := dm.Open()
	if err != nil {
		return err
	}
	usable, unusable := plugins(ctx, c, plugin.Options{
		Devices: plugin.DeviceMapper{Control: control}, Log: log, Trust: ownership.File,
	})
	defer closePlugins(usable, log)
	registry := writers.New(c)
	clones := &clone.Provider{Store: daemon.CloneStore(c)}
	events, err := dm.NewEvents()
	if err != nil {
		return err
	}
	groupEvents, err := dm.NewEvents()
	if err != nil {
		return err
	}
	var (
		d       *daemon.Daemon
		server  *bus.Server
		counted *metrics.Metrics
		groups  *pools.GroupWatch
	)
	watch := newWatch(c, control, events, func(c pools.Change) { d.PoolChanged(c) }, log)
	d = daemon.New(daemon.Options{
		Version: version, Config: c, Log: log, Alone: aloneErr == nil, RunDir: run, Machine: provider.ThisHost().Machine,
		Host:      daemon.System{Socket: guard.Socket, Notes: guard.Notes, Control: control},
		Providers: slices.Concat(usable, providers(c, control, run, log), []provider.Provider{clones}), Clones: clones, Unusable: unusable,
		NewWriter: registry.NewWriter, Registry: registry,
		ReleaseUnits: func(ctx context.Context) ([]string, error) { return unit.Release(ctx, unit.Notes, unit.Dial) },
		Watch:        watch, Groups: func() []pools.Group { return groups.Groups() }, Ended: func(e daemon.Ended) { counted.Ended(e) },
		Released: func(n int) { counted.Released(n) },
		Changed:  func() { server.Changed() },
		Acted: func(_ context.Context, r acts.Report) {
			counted.Acted(r)
			server.PoolActed(r)
		},
	})
	groups = newGroupWatch(c, control, groupEvents, d, log)
	counted = newMetrics(c, d, watch, groups.Groups)
	server = bus.New(d, bus.Polkit, log) // before the start, which may have something to tell
	server.Writers = registry
	if err := d.Start(ctx); err != nil {
		log.Error("starting with problems", "error", err)
	}

	ctx, exit := context.WithCancel(ctx)
	defer exit()
	var reload atomic.Bool
	server.Reload = &bus.Reload{Check: func() error { return check(dir) }, Begin: func() {
		if err := systemd.Reloading(); err != nil {
			log.Warn("systemd was not told", "error", err)
		}
		reload.Store(true)
		exit()
	}}
	go func() {
		if err := watch.Run(ctx); err != nil {
			log.Error("pools are not watched any more", "error", err)
		}
	}()
	go func() {
		if err := groups.Run(ctx); err != nil {
			log.Error("volume groups are not watched any more", "error", err)
		}
	}()
	d.KeepPools(ctx)
	d.FollowSets(ctx, groups.Looked())
	for socket, document := range map[string]func(io.Writer) error{
		feed.MetricsSocket: feed.Metrics(counted), feed.OverviewSocket: feed.Overview(d.Overview),
	} {
		go func() {
			if err := feed.Serve(ctx, filepath.Join(run, socket), document, log); err != nil {
				log.Error("the exporter cannot read", "socket", socket, "error", err)
			}
		}()
	}
	go func() {
		report := func(err error) { log.Error("watchdog", "error", err) }
		alive := func() error {
			server.Busy() // no answer if the jobs are locked for good, and then systemd is told nothing
			return d.Alive()
		}
		if err := systemd.Watchdog(ctx, alive, report); err != nil {
			report(err)
		}
	}()
	go func() {
		if err := announce(ctx, server.Ready(), systemd.Ready, systemd.Status); err != nil {
			log.Warn("systemd was not told", "error", err)
		}
		exitWhenIdle(ctx, server, d, c.Daemon.IdleExit, exit)
	}()
	err = server.Serve(ctx, func() (*dbus.Conn, error) { return dbus.ConnectSystemBus() })
	stop()
	d.Wait()
	if reload.Load() && err == nil {
		return errReload
	}
	return errors.Join(err, systemd.Stopping())
}

// busWait is how long a start takes for the bus alone: what the daemon does without it, it does.
const busWait = 20 * time.Second

// announce tells systemd that the start is finished when the name on the bus is owned, or has not been in time. It returns when it is.
func announce(ctx context.Context, owned <-chan struct{}, ready, status func(string) error) error {
	select {
	case <-owned:
		return ready("ready")
	case <-time.After(busWait):
	case <-ctx.Done():
		return nil
	}
	err := ready("waiting for the bus")
	select {
	case <-owned:
		return errors.Join(err, status("ready"))
	case <-ctx.Done():
		return err
	}
}

// errStopping is what requesters are told whose work is undone.
var errStopping = errors.New("fermatad is stopping; try again when it runs")

// untilStopped gives a context that ends with the first signal to stop. Stop lets the next one end the program.
func untilStopped() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
	go func() {
		select {
		case <-signals:
			cancel(errStopping)
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

// providers are the built-in ones that the configuration leaves switched on, in the order of choice.
func providers(c *config.Config, control *dm.Control, run string, log *slog.Logger) []provider.Provider {
	tools := lvm.New(lvm.Options{}) // one for all, so that they can lock the same volume group
	var out []provider.Provider
	if p, err := c.Provider("thin"); err == nil && p.Enabled {
		reserve := provider.Reserve{Data: p.Reserve.Data, Metadata: p.Reserve.Metadata}
		out = append(out, provider.NewThin(control, tools, reserve))
	}
	if p, err := c.Provider("thick"); err == nil && p.Enabled {
		out = append(out, provider.NewThick(control, tools, p.COW, p.Reserve.VG))
	}
	if p, err := c.Provider("dm"); err == nil && p.Enabled {
		out = append(out, provider.NewDM(control, provider.DMOptions{
			Storage: p.Storage, Run: filepath.Join(run, "dm"), COW: p.COW, Reserve: p.Reserve.Data, Chunk: uint64(p.Chunk),
			Report: func(err error) { log.Warn("provider dm", "error", err) },
		}))
	}
	return out
}

// exitWhenIdle ends the daemon when nobody has asked for anything for a while; the bus starts it again.
func exitWhenIdle(ctx context.Context, s *bus.Server, d *daemon.Daemon, limit time.Duration, exit func()) {
	if limit <= 0 {
		return
	}
	began := time.Now()
	for {
		last := s.LastUsed()
		if last.Before(began) {
			last = began
		}
		left := limit - time.Since(last)
		if left <= 0 && !s.Busy() && !d.Busy() {
			exit()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(left, time.Second)):
		}
	}
}

// withoutTime leaves the time to the journal.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
