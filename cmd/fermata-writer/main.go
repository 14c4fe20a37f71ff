// Command fermata-writer has the recipes that ship with Fermata, one a
// subcommand. Each speaks the session form of the exec writer (see package
// hooks) on its standard input and output.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fermata-project/fermata/cmd/reference"
	"github.com/fermata-project/fermata/hooks/recipe"
	"github.com/fermata-project/fermata/hooks/recipe/postgresql"
	"github.com/fermata-project/fermata/hooks/recipe/testwriter"
)

// Exit status as in DESIGN section 6, as far as it applies.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	// A daemon that died closes our output; that is an error to see, not a signal to die of.
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(run(ctx))
}

func run(ctx context.Context) int {
	root := &cobra.Command{
		Use:           "fermata-writer",
		Short:         "Writers that ship with Fermata",
		Long:          "Writers that ship with Fermata: each holds one application still for a snapshot set.\nThey are started by fermatad, by a writer's \"session:\" line.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	served := false
	root.AddCommand(
		journaldCommand(&served),
		libvirtCommand(&served),
		mongodbCommand(&served),
		mysqlCommand(&served, "mariadb", "MariaDB"),
		mysqlCommand(&served, "mysql", "MySQL"),
		postgresqlCommand(&served),
		unitCommand(&served),
		redisCommand(&served),
		sqliteCommand(&served),
		qemuHookDirCommand(&served),
		testCommand(&served),
		reference.Command(os.Stdout),
	)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case served:
		fmt.Fprintln(os.Stderr, "fermata-writer:", err)
		return exitFailed
	default:
		fmt.Fprintln(os.Stderr, "fermata-writer:", err)
		return exitUsage
	}
}

func postgresqlCommand(served *bool) *cobra.Command {
	var o postgresql.Options
	c := &cobra.Command{
		Use:   "postgresql",
		Short: "Hold a PostgreSQL server, 10 or newer",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := postgresql.New(o)
			if err != nil {
				return err
			}
			*served = true
			return recipe.Serve(c.Context(), os.Stdin, os.Stdout, r)
		},
	}
	f := c.Flags()
	f.StringVar(&o.DSN, "dsn", "", "connection string or URL (default "+postgresql.DefaultDSN+")")
	f.StringVar(&o.Service, "service", "", "name in the connection service file, instead of --dsn")
	f.BoolVar(&o.BackupMode, "backup-mode", false, "bracket the hold with pg_backup_start and pg_backup_stop")
	f.StringVar(&o.DataDirectory, "data-directory", "", "files of the server, to tell whether it runs when it does not answer")
	f.StringVar(&o.WALDirectory, "wal-directory", "", "folder of the write-ahead log, where the data directory may not be read")
	f.StringVar(&o.BinDirectory, "bin-directory", "", "folder of the server's programs, for recover and verify (default: where packages put them)")
	f.StringVar(&o.Superuser, "superuser", "postgres", "role that may check everything, for verify")
	return c
}

func testCommand(served *bool) *cobra.Command {
	var o testwriter.Options
	c := &cobra.Command{
		Use:   "test",
		Short: "Misbehave at a chosen phase: prepare, freeze, hold, thaw, abort, post, recover, verify, report",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			*served = true
			err := testwriter.Serve(c.Context(), os.Stdin, os.Stdout, o)
			if exited := (*testwriter.Exited)(nil); errors.As(err, &exited) {
				os.Exit(exitFailed)
			}
			return err
		},
	}
	f := c.Flags()
	f.StringSliceVar(&o.FailAt, "fail-at", nil, "answer with an error at these phases")
	f.StringSliceVar(&o.HangAt, "hang-at", nil, "do not answer, and ignore SIGTERM")
	f.StringSliceVar(&o.ExitAt, "exit-at", nil, "exit instead of an answer")
	f.StringSliceVar(&o.LieAt, "lie-at", nil, "answer ok without holding, and admit it at thaw")
	f.StringSliceVar(&o.GarbageAt, "garbage-at", nil, "answer what is no answer")
	f.StringSliceVar(&o.TwiceAt, "twice-at", nil, "answer twice")
	f.StringSliceVar(&o.MuteAt, "mute-at", nil, "close standard output and live on")
	f.BoolVar(&o.Inactive, "inactive", false, "answer prepare with inactive")
	f.DurationVar(&o.Delay, "delay", 0, "wait before each answer")
	f.StringSliceVar(&o.DelayAt, "delay-at", nil, "wait at these phases only")
	return c
}
