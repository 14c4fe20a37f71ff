//go:build lab

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/lab/labtest"
)

// stretch is some time that a policy has to live through.
type stretch struct {
	name     string
	from, to time.Time
	// The host is down from down to up.
	down, up time.Time
}

const quarter = 15 * time.Minute

// A policy with "*:0/15" and a retention, under systemd with its clock moved from each quarter of an hour to the next, has exactly
// the right sets after each, over the changes of daylight saving and over two hours in which the host is down.
// FERMATA_DAYS=3: three days, instead of two nights.
func TestDays(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(year int, month time.Month, day, hour, minute int) time.Time {
		return time.Date(year, month, day, hour, minute, 0, 0, berlin)
	}
	// From the first 02:40 of that night; it goes down in the second hour of that name.
	autumn := stretch{"autumn", at(2026, 10, 25, 1, 40).Add(time.Hour), at(2026, 10, 25, 5, 5), at(2026, 10, 25, 3, 20).Add(-time.Hour), at(2026, 10, 25, 4, 23)}
	spring := stretch{"spring", at(2027, 3, 28, 1, 40), at(2027, 3, 28, 3, 20), time.Time{}, time.Time{}}
	all := []stretch{autumn, spring}
	if os.Getenv("FERMATA_DAYS") != "" {
		all = []stretch{{"three days", at(2026, 10, 24, 0, 0), at(2026, 10, 27, 0, 0), at(2026, 10, 26, 9, 50), at(2026, 10, 26, 11, 53)}, spring}
	}
	moveClock(t)
	localTime(t, "Europe/Berlin")
	v := thinVolumes(t, 1)[0]
	for _, s := range all {
		t.Run(s.name, func(t *testing.T) { s.live(t, v.Point, berlin) })
	}
}

const (
	daysTimer   = "fermata-policy@days.timer"
	daysService = "fermata-policy@days.service"
	daysGroup   = `/sys/fs/cgroup/system.slice/system-fermata\x2dpolicy.slice/` + daysService
)

// newestManifest is asked for often, and the guest has one processor.
func newestManifest(t testing.TB) string {
	t.Helper()
	files, err := filepath.Glob("/var/lib/fermata/sets/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		return ""
	}
	return slices.Max(files)
}

func (s stretch) live(t *testing.T, volume string, in *time.Location) {
	setClock(t, s.from)
	configure(t, map[string]string{"policies.d/days.yaml": "volumes: [" + volume + "]\n" +
		"schedule: {at: '*:0/15', randomized_delay: 0s}\n" +
		"retention: {keep_last: 3, keep_hourly: 4, keep_daily: 2}\n"})
	must(t, "policy", "apply")
	t.Cleanup(func() {
		labtest.Run(t, "systemctl", "stop", daysTimer, daysService)
		labtest.Run(t, "systemctl", "clean", "--what=state", daysTimer)
		for _, m := range sets(t) {
			must(t, "snapshot", "delete", m.ID)
		}
	})
	want, runs := []time.Time{}, 0
	begun := time.Now()
	run := func(due, moment time.Time, elapse func()) {
		t.Helper()
		before := newestManifest(t)
		elapse()
		eventually(t, "a set of "+moment.String(), func() bool { return newestManifest(t) > before })
		eventually(t, "the run ends", func() bool { _, err := os.Stat(daysGroup); return os.IsNotExist(err) })
		runs++
		want = kept(append(want, due), in)
		var got []time.Time
		for _, m := range sets(t) {
			got = append(got, m.Created.In(in).Truncate(quarter))
		}
		t.Logf("%v: %d sets, after %v", moment.Format(time.RFC3339), len(got), time.Since(begun).Round(time.Millisecond))
		if !slices.EqualFunc(got, want, time.Time.Equal) {
			t.Fatalf("after the run of %v there are\n%v\nnot\n%v", moment, stamps(got), stamps(want))
		}
	}
	// The run of the beginning itself is in the past when the timer starts.
	for due := s.from.Truncate(quarter).Add(quarter); !due.After(s.to); due = due.Add(quarter) {
		if !s.down.IsZero() && due.After(s.down) {
			// All that was due meanwhile is made up for at once, as when a host boots that was off.
			labtest.Run(t, "systemctl", "stop", daysTimer, "fermatad")
			late := s.up
			run(late.Truncate(quarter), late, func() {
				setClock(t, late)
				labtest.Run(t, "systemctl", "start", "fermatad", daysTimer)
			})
			due, s.down = late.Truncate(quarter), time.Time{}
			continue
		}
		run(due, due, func() { setClock(t, due.Add(-50*time.Millisecond)) })
	}
	if wanted := map[string]int{"autumn": 7, "spring": 3, "three days": 285}[s.name]; runs != wanted {
		t.Errorf("%d runs, not %d", runs, wanted)
	}
	t.Logf("%d runs in %v; left are %d sets", runs, time.Since(begun).Round(time.Second), len(want))
}

// kept are those of the sets that a policy with keep_last 3, keep_hourly 4 and keep_daily 2 keeps, newest last: told in the words of
// the manual, one set after the other. A rule that has too few periods keeps the oldest set, too.
func kept(all []time.Time, in *time.Location) []time.Time {
	hour := func(t time.Time) string { return fmt.Sprint(t.Unix() / 3600) }
	day := func(t time.Time) string { return t.In(in).Format(time.DateOnly) }
	each := func(t time.Time) string { return t.String() }
	rule := func(i, n int, period func(time.Time) string) bool {
		later := map[string]bool{} // periods after this set's
		for _, other := range all[i+1:] {
			if period(other) == period(all[i]) {
				periods := map[string]bool{}
				for _, x := range all {
					periods[period(x)] = true
				}
				return i == 0 && len(periods) < n
			}
			later[period(other)] = true
		}
		return len(later) < n
	}
	var out []time.Time
	for i, t := range all {
		if rule(i, 3, each) || rule(i, 4, hour) || rule(i, 2, day) {
			out = append(out, t)
		}
	}
	return out
}

func stamps(times []time.Time) string {
	var b strings.Builder
	for _, t := range times {
		fmt.Fprintln(&b, t.Format(time.RFC3339))
	}
	return b.String()
}

func setClock(t testing.TB, to time.Time) {
	t.Helper()
	spec := unix.NsecToTimespec(to.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &spec); err != nil {
		t.Fatalf("cannot set the clock: %v", err)
	}
}

// moveClock sets the clock right after the test, and keeps timers that are not of it from running in days that are skipped.
func moveClock(t testing.TB) {
	t.Helper()
	now := time.Now()
	var others []string
	for line := range strings.Lines(labtest.Run(t, "systemctl", "list-units", "--type=timer", "--state=active", "--plain", "--no-legend")) {
		others = append(others, strings.Fields(line)[0])
	}
	if len(others) > 0 {
		labtest.Run(t, append([]string{"systemctl", "stop"}, others...)...)
	}
	t.Cleanup(func() {
		setClock(t, now.Add(time.Since(now)).Round(0))
		if len(others) > 0 {
			labtest.Run(t, append([]string{"systemctl", "start"}, others...)...)
		}
	})
}

// localTime sets the host's time zone for the test.
func localTime(t testing.TB, zone string) {
	t.Helper()
	was := strings.TrimSpace(labtest.Run(t, "readlink", "/etc/localtime"))
	set := func(to string) { labtest.Run(t, "ln", "-sfT", to, "/etc/localtime") }
	set("/usr/share/zoneinfo/" + zone)
	t.Cleanup(func() { set(was) })
}
