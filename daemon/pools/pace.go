package pools

import (
	"time"

	"github.com/fermata-project/fermata/dm"
)

// Nothing in the kernel tells that a pool grows: a thin pool raises an event at its low-water mark and when its mode changes, a
// copy-on-write area when it is full (dm-thin.c, dm-snap.c). So each is looked at again when it could have reached its next
// threshold, at ten times the rate of late or at the pace that a burst may have, whichever is faster.
const (
	shortest = 900 * time.Millisecond // a threshold is seen within a second
	longest  = time.Minute
	haste    = 10

	burst         = 100 << 20 // bytes a second, of data
	burstMetadata = 128 << 10 // of metadata: 100 MiB/s in blocks of 64 KiB are 1,600 mappings
)

// again is how long it takes until a space has to be looked at again: rates are of late, in bytes a second.
func again(s dm.Space, dataRate, metadataRate float64, limits Limits) time.Duration {
	data := limits.Data
	if s.Type == "snapshot" {
		data = limits.COW
	}
	return min(soonest(s.Data, max(burst, haste*dataRate), data), soonest(s.Metadata, max(burstMetadata, haste*metadataRate), limits.Metadata))
}

// soonest is when the next threshold is reached at a rate.
func soonest(f dm.Fill, rate float64, at Thresholds) time.Duration {
	if f.Size == 0 {
		return longest
	}
	next := float64(f.Size)
	for _, threshold := range []float64{at.Critical, at.Warning} {
		if t := threshold * float64(f.Size); float64(f.Used) < t {
			next = t
		}
	}
	seconds := max(0, next-float64(f.Used)) / rate
	if seconds >= longest.Seconds() {
		return longest
	}
	return max(shortest, time.Duration(seconds*float64(time.Second)))
}
