// Package forecast says how long a pool lasts. It is pure: samples of how full something is go in, a time until it is full comes
// out.
//
// A straight line through the last hours, which is what predict_linear of Prometheus draws, fails in three ways that thin pools
// have every day: a burst of a minute is taken for the rate of a day; a snapshot that is deleted makes the line fall, so that a
// pool which fills up looks safe; and where a policy deletes a snapshot for each one that it takes, a line that leaves the
// deletions out cries wolf for ever. So:
//
//   - The rate is the median of the slopes between all pairs of samples (Theil 1950; Sen, "Estimates of the regression coefficient
//     based on Kendall's tau", JASA 63, 1968). It ignores what disturbs less than 29 % of the samples.
//   - There are several windows, from ten minutes to a week. A rate is believed for [reach] times as long as it was observed:
//     that the pool is full in half an hour takes ten minutes to believe, that it is full tomorrow takes hours. What the next
//     longer window says counts as well, if it is sooner: bursts that come again are growth.
//   - A deletion, which is a fall by more than [deletion] of the size, is left out of the curve. Where there were several, the
//     next one is expected as they came: if the pool lasts until then, the trend of the peaks decides.
package forecast

import (
	"math"
	"slices"
	"time"
)

const (
	// reach is how many times the length of its window a rate is believed for.
	reach = 3
	// deletion is the fall, as a part of the size, that is taken for a deletion; less is noise: discards, blocks that are given back.
	deletion = 0.002
	// regular is how many deletions a window needs for further ones to be expected.
	regular = 3
	// late is how much longer than the longest interval seen the next deletion may take.
	late = 1.25
	// samples is how many a window holds.
	samples = 32
	// enough is how much of a window must have been observed, and enoughSamples how many samples it needs: what is idle is
	// looked at every two minutes, five times in the shortest window.
	enough        = 0.5
	enoughSamples = 4
)

var windows = []time.Duration{10 * time.Minute, time.Hour, 6 * time.Hour, 36 * time.Hour, 7 * 24 * time.Hour}

// sample is how much was used at an instant of a clock that never jumps.
type sample struct {
	at   time.Duration
	used float64
}

// Series is what is known of one pool's data or metadata. The zero Series is empty and ready. It takes about 3 KiB when it is full.
type Series struct {
	windows [5][]sample
	size    float64
}

// Add notes that used of size (bytes, blocks: any unit) was in use at an instant, counted from any origin, of a clock that never
// jumps, such as CLOCK_BOOTTIME. An instant before the last one is ignored.
func (s *Series) Add(at time.Duration, used, size uint64) {
	s.size = float64(size)
	for i, length := range windows {
		w := s.windows[i]
		if n := len(w); n > 0 && at-w[n-1].at < length/samples {
			continue
		}
		if len(w) == samples+1 {
			w = slices.Delete(w, 0, 1)
		}
		s.windows[i] = append(w, sample{at, float64(used)})
	}
}

// Never is when something that does not grow is full.
const Never = time.Duration(math.MaxInt64)

// Until is how long it takes until all is used, if it goes on like this: never negative; Never if it does not grow; known is
// false while too little has been observed.
func (s *Series) Until(at time.Duration, used uint64) (left time.Duration, known bool) {
	now := sample{at, float64(used)}
	if s.size > 0 && now.used >= s.size {
		return 0, true
	}
	left, believed := Never, false
	for i, length := range windows {
		w := recent(s.windows[i], at-length)
		if len(w) < enoughSamples || float64(at-w[0].at) < enough*float64(length) {
			break
		}
		in := Never
		if !level(w, now.used) {
			curve, _ := undeleted(append(slices.Clone(w), now), s.size)
			in = reached(now.used, slope(curve), s.size)
		}
		if believed {
			left = min(left, in)
			break
		}
		left, known, believed = in, true, in <= reach*length
	}
	if next, lasting := s.deletions(now); left > next {
		left = max(left, lasting)
	}
	return left, known
}

// deletions is how long it takes until the next deletion, as they came so far, and until the peaks before them reach the size;
// Never and 0 if there were none, or one is overdue.
func (s *Series) deletions(now sample) (next, lasting time.Duration) {
	for i, length := range windows {
		w := recent(s.windows[i], now.at-length)
		if len(w) == 0 || level(w, w[0].used) {
			continue
		}
		_, peaks := undeleted(w, s.size)
		if len(peaks) < regular {
			continue
		}
		last, interval := peaks[len(peaks)-1], time.Duration(0)
		for i := 1; i < len(peaks); i++ {
			interval = max(interval, peaks[i].at-peaks[i-1].at)
		}
		next = last.at + time.Duration(late*float64(interval)) - now.at
		if next < 0 {
			break
		}
		lasting = reached(last.used, slope(peaks), s.size)
		return next, max(0, lasting-(now.at-last.at))
	}
	return Never, 0
}

// level reports whether nothing but used was seen: as of most snapshots, most of the time.
func level(w []sample, used float64) bool {
	return !slices.ContainsFunc(w, func(s sample) bool { return s.used != used })
}

func recent(w []sample, since time.Duration) []sample {
	i := 0
	for i < len(w) && w[i].at < since {
		i++
	}
	return w[i:]
}

// undeleted is the curve as if nothing had ever been deleted, and the last sample before each deletion.
func undeleted(w []sample, size float64) (curve, peaks []sample) {
	gone := 0.0
	for i, s := range w {
		if i > 0 && w[i-1].used-s.used > deletion*size {
			gone += w[i-1].used - s.used
			peaks = append(peaks, w[i-1])
		}
		curve = append(curve, sample{s.at, s.used + gone})
	}
	return curve, peaks
}

// slope is the median of the slopes between all pairs, in units a nanosecond.
func slope(w []sample) float64 {
	if len(w) == 0 || level(w, w[0].used) {
		return 0
	}
	slopes := make([]float64, 0, len(w)*(len(w)-1)/2)
	for i := range w {
		for j := i + 1; j < len(w); j++ {
			if dt := w[j].at - w[i].at; dt > 0 {
				slopes = append(slopes, (w[j].used-w[i].used)/float64(dt))
			}
		}
	}
	slices.Sort(slopes)
	if n := len(slopes); n%2 == 0 {
		return (slopes[n/2-1] + slopes[n/2]) / 2
	}
	return slopes[len(slopes)/2]
}

// reached is how long it takes from used to size.
func reached(used, slope, size float64) time.Duration {
	if slope <= 0 {
		return Never
	}
	if left := (size - used) / slope; left < float64(Never) {
		return time.Duration(left)
	}
	return Never
}
