// Command bench measures freeze windows in a guest of the lab, or on any machine with a disk to spare: that of Fermata
// beside the floor (the bare loop of the same ioctls), beside the classic recipe (fsfreeze, one lvcreate -s a volume,
// thaw) where the kernel survives it, and beside lvcreate -s alone; and how long an application stalls. Contenders take turns within one run, so that noise
// hits them all alike. It never fails for being slow; --check only warns.
//
// See docs/performance.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/lab/udev"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	disk := flags.String("disk", firstWord(os.Getenv("LAB_DISKS")), "`device` of at least 8 GB, which is overwritten")
	volumes := flags.String("volumes", "1,2,4,8", "sizes of sets of thin volumes, each at most 8; of the other providers it is one volume")
	providers := flags.String("providers", strings.Join(order, ","), "providers to measure; dm and btrfs are configured for the time of the run")
	scale := flags.Float64("scale", 1, "do so many times the usual number of rounds")
	limit := flags.Duration("time", 15*time.Minute, "stop after so long and report what there is")
	noUdev := flags.Bool("stop-udev", false, "stop udev first: in a guest of the lab, whose one processor it would share")
	format := flags.String("format", "both", "table, json (one line), or both")
	check := flags.Bool("check", false, "warn of every bar that is missed; the exit status stays 0")
	if err := flags.Parse(args); err != nil {
		return err
	}
	sizes, err := parseSizes(*volumes)
	names := strings.Split(*providers, ",")
	switch {
	case err != nil:
		return err
	case slices.ContainsFunc(names, func(name string) bool { return kinds[name] == nil }):
		return fmt.Errorf("unknown provider in %q: some of %s", *providers, strings.Join(order, ","))
	case *disk == "":
		return errors.New("which disk? Name one that may be overwritten: --disk DEVICE")
	case !strings.Contains("table json both", *format):
		return fmt.Errorf("unknown format %q: table, json or both", *format)
	case *scale <= 0 || *scale > 100:
		return fmt.Errorf("scale %v is not above 0 and at most 100", *scale)
	}

	if *noUdev {
		start, err := udev.Stop()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, start()) }()
	}
	s, err := newStage(*disk, names)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	r, err := s.perform(ctx, s.turns(sizes, *scale), time.Now().Add(*limit))
	if err != nil {
		return err
	}
	if *format != "json" {
		fmt.Print(r.table())
	}
	if *check {
		for _, w := range r.missed() {
			fmt.Println("WARNING:", w)
		}
	}
	if *format == "table" {
		return nil
	}
	line, err := r.json()
	if err != nil {
		return err
	}
	fmt.Println(line)
	return nil
}

func parseSizes(list string) ([]int, error) {
	var sizes []int
	for word := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > maxVolumes {
			return nil, fmt.Errorf("a set of %q volumes is not possible: 1 to %d", word, maxVolumes)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

func firstWord(s string) string {
	word, _, _ := strings.Cut(s, " ")
	return word
}
