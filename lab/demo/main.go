// Command demo shows Fermata's main job on real programs, in a guest of the lab: a busy PostgreSQL whose files lie on two
// volumes, a snapshot set of both taken by policy, a second PostgreSQL started on that set, and the proof, in numbers, that
// the set is what it claims to be.
//
// It prints a transcript: each command as one would type it, what the command printed, and a line for each thing proven.
// The first failure ends it with exit status 1. It is run by "make demo", as root, in a guest with two fresh disks; nothing
// outside the guest is touched.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// demo is what one step hands to those after it.
type demo struct {
	*transcript
	disks   []string
	before  storage  // before there was a set
	ledger  *ledger  // the client that knows what it was promised
	asked   interval // when snapshot create ran
	set     api.Manifest
	window  interval // of the set's freeze
	capture interval // inside the window: all filesystems are frozen, the snapshots are taken
	copy    string   // folder below which the set is mounted
}

// interval is a stretch of time. Both ends carry the monotonic clock, unless they come from the daemon.
type interval struct{ begin, end time.Time }

var steps = []struct {
	title string
	act   func(context.Context, *demo) error
}{
	{"Two thin volumes: ext4 for the data, XFS for the write-ahead log and a tablespace", makeVolumes},
	{"PostgreSQL on both of them, under load", startDatabase},
	{"Fermata: one writer, one policy", configure},
	{"A snapshot set of the running database", takeSet},
	{"A second PostgreSQL, on throw-away copies of the set", startCopy},
	{"Is everything in it that was promised, and nothing that came later?", proveLedger},
	{"Do the two volumes agree?", proveAgreement},
	{"What the clients of the live database noticed", proveLive},
	{"Nothing is left", cleanUp},
}

// limit is for the whole demo; a guest takes a minute.
const limit = 8 * time.Minute

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	d := &demo{transcript: &transcript{out: os.Stdout}, ledger: &ledger{}}
	for i, s := range steps {
		d.title(i+1, s.title)
		if err := s.act(ctx, d); err != nil {
			d.explain(ctx)
			fmt.Fprintf(os.Stderr, "demo: step %d failed: %v\n", i+1, err)
			os.Exit(1)
		}
	}
	fmt.Printf("\ndemo: %d checks passed\n", d.checks)
}
