package pools

import (
	"time"

	"github.com/fermata-project/fermata/dm"
)

// Nothing in the kernel tells that a pool grows: a thin pool raises an event at its low-water mark, when a block is wanted that is not
// there, and when its mode changes; a copy-on-write area when it is full (dm-thin.c, dm-snap.c). That the last block is
// taken raises none. So each is looked at again when it could have reached its next threshold, at ten times the rate of late or at the
// pace that a burst may have, whichever is faster; and more often while it grows towards a threshold that is near.
const (
	hurried  = 150 * time.Millisecond // the next threshold is reached in less than near, at the rate of late
	shortest = 700 * time.Millisecond // a threshold is seen within a second
	longest  = time.Minute
	idle     = 2 * time.Minute // it did not grow
	near     = 3 * time.Second
	haste    = 10

	burst         = 300 << 20 // bytes a second, of data
	burstMetadata = 384 << 10 // of metadata: 300 MiB/s in blocks of 64 KiB are 4,800 mappings
)

// pace is how fast a space grows.
type pace struct {
	data, metadata float64 // bytes a second, of late
	since          time.Duration
	was            [2]uint64 // used then
	begun          bool
}

// add notes what is used. Looks that follow each other quickly are taken together: an event or two tell nothing of a rate.
func (p *pace) add(now time.Duration, data, metadata uint64) {
	seconds := (now - p.since).Seconds()
	if p.begun && seconds < 0.5 {
		return
	}
	if p.begun {
		p.data, p.metadata = decayed(p.data, growth(p.was[0], data)/seconds), decayed(p.metadata, growth(p.was[1], metadata)/seconds)
	}
	p.begun, p.since, p.was = true, now, [2]uint64{data, metadata}
}

// decayed is a rate, but no less than half of what it was: a writer that waits for a commit of the pool's goes on afterwards.
func decayed(was, is float64) float64 {
	const nothing = 4096 // bytes a second
	if is = max(is, was/2); is < nothing {
		return 0
	}
	return is
}

func growth(was, is uint64) float64 { return float64(is - min(is, was)) }

// again is how long it takes until a space has to be looked at again: rates are of late, in bytes a second.
func again(s dm.Space, dataRate, metadataRate float64, limits Limits) time.Duration {
	data := limits.Data
	if s.Type == "snapshot" {
		data = limits.COW
	}
	return min(soonest(s.Data, dataRate, burst, data), soonest(s.Metadata, metadataRate, burstMetadata, limits.Metadata))
}

// soonest is when the next threshold could be reached: rate is of late, burst the rate that there could be at any time.
func soonest(f dm.Fill, rate, burst float64, at Thresholds) time.Duration {
	if f.Size == 0 {
		return idle
	}
	next := float64(f.Size)
	for _, threshold := range []float64{at.Critical, at.Warning} {
		if t := threshold * float64(f.Size); float64(f.Used) < t {
			next = t
		}
	}
	last := longest
	if rate == 0 {
		last = idle
	}
	room := max(0, next-float64(f.Used))
	seconds := room / max(burst, haste*rate)
	floor := shortest
	if room < rate*near.Seconds() {
		floor = hurried
	}
	if seconds >= last.Seconds() {
		return last
	}
	return max(floor, time.Duration(seconds*float64(time.Second)))
}
