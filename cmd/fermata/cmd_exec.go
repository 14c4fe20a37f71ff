package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/daemon/client"
)

// execDir is where fermatad mounts the sets that a command runs with: always in the same place, which is what backup programs compare
// paths with.
const execDir = "/run/fermata/exec"

// execFlags are the options of exec as they are typed.
type execFlags struct {
	request api.UseRequest
	ifBusy  string
}

func execCommand(a *app) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec (--policy P | --set SET | MOUNTPOINT-OR-DEVICE...) -- CMD ARG...",
		Short: "Run a command with a snapshot set mounted: for backup programs",
		Long: `Take a snapshot set, or use one that there is, mount all of it as one tree, run CMD, tell the writers how it
went, unmount the set, and delete it if it was taken for this. All this is undone as well when this program, or CMD,
is killed: then the daemon does it.

CMD finds in its environment
  FERMATA_ROOT         the directory that the live paths lie below: /srv/db is $FERMATA_ROOT/srv/db. It is the same
                       each time, ` + execDir + `/POLICY
  FERMATA_MOUNTS       the directories in it where snapshots are mounted, one in each line
  FERMATA_SET          the set's id
  FERMATA_POLICY       its policy, if it has one
  FERMATA_CONSISTENCY  what it claims: application, filesystem or crash
Signals are passed on to it.

Exit status: that of CMD; 3 if that is 0 and the set claims less consistency than it could. If CMD was not run: 1
failed, 2 usage, 4 timed out or a hold was broken, 75 busy.`,
		Example: `  fermata exec --policy db -- sh -c 'restic backup "$FERMATA_ROOT"'
  fermata exec --set latest:db -- ls -l /run/fermata/exec/db/srv/db
  fermata exec /srv /home --keep -- rsync -a --delete /run/fermata/exec/manual/ backup:/srv/mirror/`,
		RunE: func(cmd *cobra.Command, args []string) error {
			volumes, command := atDash(cmd, args)
			r, err := f.resolve(volumes, command)
			if err != nil {
				return usage(cmd, "%w", err)
			}
			return a.with(cmd, "run "+command[0]+" with a set", func(ctx context.Context, c *client.Client) error {
				return a.exec(ctx, c, r, command)
			})
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&f.request.Policy, "policy", "", "take a set by policy `P`")
	fs.StringVar(&f.request.Set, "set", "", "use set `SET`, which stays")
	fs.StringArrayVar(&f.request.Writers, "writer", nil, "ask writer `W` to hold (repeatable; without a policy)")
	fs.BoolVar(&f.request.Keep, "keep", false, "keep the set that was taken")
	fs.BoolVar(&f.request.Mount.Writable, "writable", false, "mount throw-away copies that can be written to")
	fs.StringVar(&f.request.Mount.Target, "at", "", "mount below `DIR` instead")
	ifBusyFlag(cmd, &f.ifBusy, "another set")
	_ = cmd.RegisterFlagCompletionFunc("policy", completePolicies)
	_ = cmd.RegisterFlagCompletionFunc("set", completeSets)
	_ = cmd.RegisterFlagCompletionFunc("writer", completeWriters)
	_ = cmd.MarkFlagDirname("at")
	return cmd
}

// resolve makes the request of the options and arguments; its errors are errors of usage.
func (f execFlags) resolve(volumes, command []string) (r api.UseRequest, err error) {
	r = f.request
	switch {
	case len(command) == 0:
		return r, fmt.Errorf("what to run is missing: -- CMD")
	case r.Set != "" && (r.Policy != "" || len(volumes) > 0 || len(r.Writers) > 0):
		return r, fmt.Errorf("--set names a set that is there: a policy, volumes or writers are too much")
	case r.Set != "" && r.Keep:
		return r, fmt.Errorf("--set names a set that is there, and stays: --keep is too much")
	case r.Policy != "" && len(volumes) > 0:
		return r, fmt.Errorf("--policy says which volumes: %q is too much", volumes[0])
	case r.Policy != "" && len(r.Writers) > 0:
		return r, fmt.Errorf("--policy says which writers: --writer is too much")
	case r.Set == "" && r.Policy == "" && len(volumes) == 0:
		return r, fmt.Errorf("what to take is missing: --policy, --set, or mount points or devices")
	}
	if _, err := exec.LookPath(command[0]); err != nil { // nothing need be taken to learn that
		return r, err
	}
	if r.Volumes, err = volumePaths(volumes); err != nil {
		return r, err
	}
	if r.Mount.Target != "" {
		if r.Mount.Target, err = filepath.Abs(r.Mount.Target); err != nil {
			return r, err
		}
	}
	r.FailIfBusy, err = parseIfBusy(f.ifBusy)
	return r, err
}

// exec runs the command while the set is mounted. A signal that comes before ends the taking of the set; one that comes while
// the command runs is the command's.
func (a *app) exec(ctx context.Context, c *client.Client, r api.UseRequest, command []string) error {
	taking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	var failure error
	progress, finish := a.progressLine()
	m, err := c.Use(taking, r, func(m *api.Manifest) bool {
		finish()
		signals := hear() // before the others stop to: none is lost
		defer signal.Stop(signals)
		if !stop() {
			failure = context.Cause(ctx)
			return false
		}
		a.status, failure = runWith(command, environment(m, treeOf(m, r.Mount.Target)), signals)
		return a.status == 0 && failure == nil
	}, progress)
	finish()
	switch {
	case failure != nil:
		return failure
	case err != nil && a.status != 0:
		fmt.Fprintf(a.err, "fermata: %s\n", printable(err.Error())) // the command's status is worth more
		return errQuiet
	case err != nil:
		return err
	}
	if a.status == 0 && r.Set == "" {
		a.status = createStatus(r.Request, m)
	}
	for _, reason := range m.Reasons {
		fmt.Fprintf(a.err, "fermata: %s\n", printable(reason))
	}
	return nil
}

// treeOf is the directory that the live paths of a mounted set lie below: at, or where fermatad has mounted it.
func treeOf(m *api.Manifest, at string) string {
	if at != "" {
		return at
	}
	for _, x := range m.Mounts {
		if x.Path != "" {
			return strings.TrimSuffix(x.Path, strings.TrimSuffix(x.MountPoint, "/"))
		}
	}
	return filepath.Join(execDir, cmp.Or(m.Policy, "manual")) // it has raw volumes only
}

// environment is this program's, with what the command is to know of the set.
func environment(m *api.Manifest, root string) []string {
	var mounts []string
	for _, x := range m.Mounts {
		mounts = append(mounts, place(x))
	}
	return append(os.Environ(), "FERMATA_SET="+m.ID, "FERMATA_POLICY="+m.Policy, "FERMATA_ROOT="+root,
		"FERMATA_CONSISTENCY="+string(m.Consistency), "FERMATA_MOUNTS="+strings.Join(mounts, "\n"))
}
