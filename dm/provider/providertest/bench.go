// Package providertest is what every provider must pass: Run takes a provider through the life of a snapshot (see package
// provider), and through everything that can go wrong in it, and looks after each whether the snapshots show the right
// instant and whether nothing was left behind.
//
// A provider's own test brings a Bench: volumes to snapshot, and eyes and hands beside the provider. It is a dozen lines
// for one that resembles another. Fake is a provider in memory that passes the suite, for tests of what is above
// providers.
package providertest

import (
	"testing"

	"github.com/fermata-project/fermata/dm/provider"
)

// Bench is where a provider is tested. Everything on it is gone when the test is over for which it was made.
type Bench interface {
	// Provider makes the provider anew, as a daemon does that starts.
	Provider() provider.Provider
	// Origin makes a volume that the provider takes, in use as an application would use it. Volumes of group 0 share
	// where their snapshots' space comes from; those of group 1 have another pool, in another volume group.
	Origin(t testing.TB, group int, name string) Origin
	// LongestName is the longest name that a volume of a group can have.
	LongestName(group int) int
	// Content is what a device shows that Expose has named.
	Content(t testing.TB, device string) Content
	// Write writes to such a device, which is that of a Copy.
	Write(t testing.TB, device, key, value string)
	// Traces tells everything that snapshots can leave behind: if it says the same before and after, nothing was.
	Traces(t testing.TB) string
	// Remove removes a snapshot with the ordinary tools, behind the provider's back.
	Remove(t testing.TB, snapshot string)
	// Others shows that the ordinary tools still work on a volume: they make a snapshot of it, and remove it.
	Others(t testing.TB, o Origin)
	// Fill takes all the room that snapshots in group 0 could have.
	Fill(t testing.TB)
}

// Breaker is a Bench of a provider with pools.
type Breaker interface {
	// Break makes the pool of group 0 one that does not take all writes.
	Break(t testing.TB)
}

// Whole is a Bench of real devices.
type Whole interface {
	// Sum is a checksum of everything on a device, past every cache.
	Sum(t testing.TB, device string) string
	// Load writes to a volume all the time, without pause, until stop.
	Load(t testing.TB, o Origin) (stop func())
}

// Mender is a Bench whose broken pool must be mended before anything can be removed from it.
type Mender interface{ Mend(t testing.TB) }

// Origin is a volume in use.
type Origin interface {
	Volume() provider.Volume
	// Write writes, and returns when that is acknowledged.
	Write(t testing.TB, key, value string)
	Content(t testing.TB) Content
	// Freeze freezes the filesystem, Thaw thaws it, as the transaction does around the window.
	Freeze(t testing.TB)
	Thaw(t testing.TB)
	// Suspended tells the device's state; Suspend and Resume change it, as somebody else could, or the guard.
	Suspended(t testing.TB) bool
	Suspend(t testing.TB)
	Resume(t testing.TB)
	// Check looks whether the volume is intact, taking it out of use if that is needed.
	Check(t testing.TB)
}
