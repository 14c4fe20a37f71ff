//go:build lab

package system

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"
)

// Torture: faults at random points of sets of random kinds, and at random instants between the points, for
// FERMATA_TORTURE (a duration), by FERMATA_MATRIX_SEED.
func TestTorture(t *testing.T) {
	limit, err := time.ParseDuration(os.Getenv("FERMATA_TORTURE"))
	if err != nil {
		t.Fatal("FERMATA_TORTURE says how long (make torture): ", err)
	}
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 1))
	fmt.Printf("note: torture, Linux %s: seed %d, for %v\n", release(t), seed, limit)
	end := time.Now().Add(limit)
	var total score
	for time.Now().Before(end) {
		k := setKinds[random.IntN(len(setKinds))]
		t.Run(k.name, func(t *testing.T) {
			s := prepareStage(t, k)
			cases := s.cases()
			for i := 0; i < tortureStay && time.Now().Before(end); i++ {
				c := cases[random.IntN(len(cases))]
				// A child that dies may be an lvm command, and LVM does not promise anything then: only at points.
				if delay := time.Duration(random.IntN(2000)) * time.Millisecond; random.IntN(2) == 0 && c.fault.name != "daemon and its children killed" {
					c.point, c.kept, c.after = "somewhere", false, delay
				}
				s.play(t, c)
			}
			s.score.print(release(t) + ", " + k.name)
			total.add(s.score)
		})
	}
	total.print(fmt.Sprintf("%s, seed %d, in all", release(t), seed))
}

// tortureStay is how many cases are run before the volumes are made anew.
const tortureStay = 40
