//go:build lab

package system

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

const mib = 1 << 20

// smallGroup makes volume group vg of so many MiB on the first disk.
func smallGroup(t testing.TB, groupMiB int) {
	t.Helper()
	labtest.CheckClean(t)
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	disk := labtest.Disks(t)[0]
	labtest.Run(t, "pvcreate", "-qq", "-ff", "-y", "--setphysicalvolumesize", fmt.Sprintf("%dm", groupMiB), disk)
	labtest.Run(t, "vgcreate", "-qq", "-s", "1m", "vg", disk)
	t.Cleanup(func() {
		pvs := strings.Fields(labtest.Run(t, "vgs", "--noheadings", "-o", "pv_name", "vg"))
		labtest.Run(t, "vgremove", "-qq", "-ff", "-y", "vg")
		labtest.Run(t, append([]string{"pvremove", "-qq", "-ff", "-y"}, pvs...)...)
	})
}

// smallPool makes a thin pool in vg, and an unmounted thin volume v of 1 GiB in it.
func smallPool(t testing.TB, pool string, poolMiB, metadataMiB int) {
	t.Helper()
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", fmt.Sprintf("%dm", poolMiB), "--thinpool", "vg/"+pool, "--poolmetadatasize", fmt.Sprintf("%dm", metadataMiB), "-Zn")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-V", "1g", "--thin", "-n", "v", "vg/"+pool)
}

// fillPool writes from one MiB of /dev/vg/v up to another, at so many MiB a second; crossed is told of each one that was written.
func fillPool(t testing.TB, from, to, rate int, crossed func(int)) {
	t.Helper()
	f, err := os.OpenFile("/dev/vg/v", os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf, err := unix.Mmap(-1, 0, mib, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // aligned
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(buf)
	for i := range buf {
		buf[i] = byte(i)
	}
	began := time.Now()
	for n := from; n < to; n++ {
		if _, err := f.WriteAt(buf, int64(n)*mib); err != nil {
			t.Fatalf("after %d MiB: %v\n%s\n%s", n, err, labtest.Run(t, "lvs", "-a", "vg"), journal(t))
		}
		if crossed != nil {
			crossed(n + 1)
		}
		time.Sleep(time.Until(began.Add(time.Duration(n+1-from) * time.Second / time.Duration(rate))))
	}
}

// listen starts what prints the bus signals of pools, with the time of each; the function tells them of one: "act outcome" → when first.
func listen(t testing.TB) func(pool string) map[string]time.Time {
	t.Helper()
	out := filepath.Join(t.TempDir(), "hook")
	hook := "/usr/local/libexec/fermata/pool-hook"
	labtest.Run(t, "mkdir", "-p", filepath.Dir(hook))
	script := "#!/bin/sh\necho \"$(date +%s.%N) $FERMATA_ACT $FERMATA_OUTCOME $FERMATA_POOL $FERMATA_DETAIL\" >>" + out + "\n"
	if err := os.WriteFile(hook, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(hook) })
	return func(pool string) map[string]time.Time {
		told := map[string]time.Time{}
		text, err := os.ReadFile(out)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			words := strings.Fields(line)
			seconds, err := strconv.ParseFloat(words[0], 64)
			if err != nil || len(words) < 4 {
				t.Fatalf("the hook was told %q", line)
			}
			key := words[1] + " " + words[2]
			if _, again := told[key]; !again && words[3] == "vg/"+pool {
				told[key] = time.UnixMicro(int64(seconds * 1e6))
			}
		}
		return told
	}
}

const withHook = "  hook: [/usr/local/libexec/fermata/pool-hook]\n"

// noticed is when the daemon logged that a pool had gone to each level first, since an instant.
func noticed(t testing.TB, pool string, since time.Time) map[string]time.Time {
	t.Helper()
	out := map[string]time.Time{}
	what := " msg=pool pool=vg/" + pool + " level="
	for line := range strings.Lines(labtest.Run(t, "journalctl", "-u", "fermatad", "--no-pager", "-o", "short-unix")) {
		at, rest, _ := strings.Cut(line, " ")
		_, rest, found := strings.Cut(rest, what)
		seconds, err := strconv.ParseFloat(at, 64)
		when := time.UnixMicro(int64(seconds * 1e6))
		if !found || err != nil || when.Before(since) {
			continue
		}
		level, _, _ := strings.Cut(rest, " ")
		if _, again := out[level]; !again {
			out[level] = when
		}
	}
	return out
}

// At 1, 10 and 100 MiB/s each threshold is told of within a second, or what that is on a host that gives the guest no time: the log says
// how long after it was reached the daemon noticed, and how long after it the hook began.
func TestActsWarn(t *testing.T) {
	smallGroup(t, 900)
	host := startLoad(t, nil)
	told := listen(t)
	configure(t, map[string]string{"fermata.yaml": "pools:\n" + withHook})
	must(t, "status")
	for _, c := range []struct{ rate, size int }{{1, 20}, {10, 100}, {100, 800}} { // MiB
		pool := fmt.Sprintf("p%d", c.rate)
		began := time.Now()
		smallPool(t, pool, c.size, 4)
		host.forget()
		at, instant := map[string]time.Time{}, map[string]int64{}
		note := func(n int) {
			for level, share := range map[string]int{"warning": 80, "critical": 90, "exhausted": 100} {
				if n == c.size*share/100 {
					at[level], instant[level] = time.Now(), monotonic()
				}
			}
		}
		begin := c.size * 70 / 100
		fillPool(t, 0, begin, 1000, nil) // faster than the watch allows for: it has to have seen that
		is(t, `fermata_pool_used_bytes{part="data",pool="vg/`+pool+`"}`, float64(begin*mib))
		is(t, `fermata_pool_level{level="ok",pool="vg/`+pool+`"}`, 1)
		fillPool(t, begin, c.size, c.rate, note)
		eventually(t, "exhaustion is told of", func() bool { return !told(pool)["warn exhausted"].IsZero() })
		seen, hooked := noticed(t, pool, began), told(pool)
		levels := []string{"warning", "critical", "exhausted"}
		for i, level := range levels {
			when := seen[level]
			for _, worse := range levels[i:] { // at 100 MiB/s they are passed within a second of each other
				if x := seen[worse]; when.IsZero() || !x.IsZero() && x.Before(when) {
					when = x
				}
			}
			late, allowed := when.Sub(at[level]).Round(time.Millisecond), host.allowed(time.Second, instant[level])
			t.Logf("%d MiB/s, %s: noticed after %v, of %v; told of after %v", c.rate, level, late, allowed.Round(time.Millisecond),
				hooked["warn "+level].Sub(at[level]).Round(time.Millisecond))
			switch {
			case when.IsZero() || late > allowed:
				t.Errorf("%d MiB/s, %s: noticed after %v, and allowed are %v", c.rate, level, late, allowed)
			case hooked["warn "+level].IsZero() && c.rate < 100:
				t.Errorf("%d MiB/s, %s: not told of", c.rate, level)
			}
		}
		for line := range strings.Lines(labtest.Run(t, "journalctl", "-u", "fermatad", "--no-pager", "-o", "cat")) {
			if strings.Contains(line, "looked at late") {
				t.Logf("%d MiB/s: %s", c.rate, line)
			}
		}
		labtest.Run(t, "lvremove", "-qq", "-ff", "-y", "vg/"+pool)
		eventually(t, "the pool is forgotten", func() bool { return !strings.Contains(metrics(t), `"vg/`+pool+`"`) })
	}
}

// A pool that may be extended is, with a spare device when its group has no room, and no write fails meanwhile.
func TestActsExtend(t *testing.T) {
	smallGroup(t, 250)
	smallPool(t, "pool", 100, 2)
	spare := labtest.Disks(t)[1]
	labtest.Run(t, "dd", "if=/dev/zero", "of="+spare, "bs=1M", "count=1", "status=none", "conv=fsync")
	told := listen(t)
	configure(t, map[string]string{"fermata.yaml": "pools:\n  extend: {at: warning, by: 50%, spares: {vg: [/dev/nosuch, " + spare + "]}}\n" + withHook})
	must(t, "status")
	fillPool(t, 0, 400, 100, nil)
	if got := told("pool"); got["extend-data ok"].IsZero() {
		t.Errorf("told of %v\n%s", got, journal(t))
	}
	if n, _ := value(t, `fermata_pool_acts_total{act="extend-data",outcome="ok",pool="vg/pool"}`); n < 3 {
		t.Errorf("%v extensions are counted", n)
	}
	if pvs := labtest.Run(t, "vgs", "--noheadings", "-o", "pv_name", "vg"); !strings.Contains(pvs, spare) {
		t.Errorf("the group has %s", pvs)
	}
	if log := journal(t); !strings.Contains(log, "act=extend-data outcome=ok") {
		t.Errorf("the journal does not tell:\n%s", log)
	}

	// Metadata: each snapshot keeps those of what is overwritten after it.
	before := labtest.Run(t, "lvs", "--noheadings", "-o", "lv_metadata_size", "--units", "m", "vg/pool")
	for i := range 200 {
		if got := told("pool"); !got["extend-metadata ok"].IsZero() {
			break
		}
		labtest.Try(t, "lvcreate", "-qq", "-s", "-n", fmt.Sprintf("s%d", i), "vg/v") // LVM refuses at 75 % of the metadata
		scatter(t, 400)
	}
	eventually(t, "the metadata are extended", func() bool { return !told("pool")["extend-metadata ok"].IsZero() })
	if after := labtest.Run(t, "lvs", "--noheadings", "-o", "lv_metadata_size", "--units", "m", "vg/pool"); after == before {
		t.Errorf("the metadata still have %s", after)
	}
}

// scatter overwrites one block in each 4 MiB of the first so many MiB of /dev/vg/v.
func scatter(t testing.TB, upTo int) {
	t.Helper()
	f, err := os.OpenFile("/dev/vg/v", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := 0; n < upTo; n += 4 {
		if _, err := f.WriteAt(make([]byte, 4096), int64(n)*mib); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// A pool that must not be extended loses the sets that are expendable, then takes no new ones, and says why. So it comes that no number
// of small sets exhausts its metadata.
func TestActsDelete(t *testing.T) {
	for _, part := range []string{"data", "metadata"} {
		t.Run(part, func(t *testing.T) {
			size, metadata, mapped := 300, 8, 64
			if part == "metadata" {
				size, metadata, mapped = 600, 2, 256
			}
			smallGroup(t, 800)
			smallPool(t, "pool", size, metadata)
			told := listen(t)
			configure(t, map[string]string{
				"fermata.yaml":      "pools:\n  metadata: {warning: 50%, critical: 70%}\n  delete: {dropped: warning, kept: exhausted}\n  refuse: {at: critical}\n" + withHook,
				"policies.d/p.yaml": "volumes: [/dev/vg/v]\nconsistency: crash\nretention: {keep_last: 2, keep_labels: [keep]}\n",
				"policies.d/q.yaml": "volumes: [/dev/vg/v]\nconsistency: crash\n",
				// Reserves, which would refuse sooner.
				"providers.d/thin.yaml": "reserve: {data: 0, metadata: 0}\n",
			})
			t.Cleanup(func() {
				for _, m := range sets(t) {
					fermata(t, "snapshot", "delete", m.ID)
				}
			})
			fillPool(t, 0, mapped, 1000, nil)
			var ids []string
			for i := range 4 {
				args := []string{"--policy", "p"}
				if i == 0 {
					args = append(args, "--label", "keep=yes")
				}
				ids = append(ids, takeRaw(t, args...).ID)
				scatter(t, mapped)
			}
			measured(t, ids, mapped)
			// What fills the pool is nobody's to delete: data, or sets of a policy without retention.
			grown, filled := metadataUsed(t), 0
			for ; level(t) != "critical" && level(t) != "exhausted"; filled++ {
				if filled == 300 {
					t.Fatalf("the pool does not fill up:\n%s", labtest.Run(t, "lvs", "-a", "vg"))
				}
				if part == "data" {
					fillPool(t, mapped+16*filled, mapped+16*(filled+1), 100, nil)
					continue
				}
				if a := fermata(t, "snapshot", "create", "--policy", "q"); a.status == 1 && strings.Contains(a.stderr, "is at level critical") {
					break
				}
				scatter(t, mapped)
			}
			if grown = metadataUsed(t) - grown; part == "metadata" {
				t.Logf("%d small sets have taken %.0f KiB of metadata", filled, grown/1024)
				noneMore(t, mapped, grown/float64(filled))
			}
			eventually(t, "the set that is expendable goes", func() bool {
				return !slices.ContainsFunc(sets(t), func(m api.Manifest) bool { return m.ID == ids[1] })
			})
			left := sets(t)
			for _, id := range []string{ids[0], ids[2], ids[3]} {
				if !slices.ContainsFunc(left, func(m api.Manifest) bool { return m.ID == id }) {
					t.Errorf("set %s is gone, which is to be kept", id)
				}
			}
			a := fermata(t, "snapshot", "create", "--policy", "p")
			if a.status != 1 || !strings.Contains(a.stderr, "pool vg/pool is at level") || !strings.Contains(a.stderr, part) {
				t.Errorf("a new set: status %d, %s", a.status, a.stderr)
			}
			eventually(t, "the hook is told of the refusal", func() bool { return !told("pool")["refuse ok"].IsZero() })
			got := told("pool")
			if got["delete ok"].IsZero() || !got["delete-kept ok"].IsZero() {
				t.Errorf("told of %v", got)
			}
			if n, _ := value(t, `fermata_pool_acts_total{act="delete",outcome="ok",pool="vg/pool"}`); n != 1 {
				t.Errorf("%v deletions are counted", n)
			}
		})
	}
}

func metadataUsed(t testing.TB) float64 {
	t.Helper()
	used, _ := value(t, `fermata_pool_used_bytes{part="metadata",pool="vg/pool"}`)
	return used
}

// noneMore asks for as many sets as would exhaust the metadata if each took as much as those before: all are refused, and no write fails.
func noneMore(t testing.TB, mapped int, each float64) {
	t.Helper()
	size, _ := value(t, `fermata_pool_size_bytes{part="metadata",pool="vg/pool"}`)
	asked := 0
	for would := metadataUsed(t); would < size; would += each {
		asked++
		if a := fermata(t, "snapshot", "create", "--policy", "q"); a.status != 1 || !strings.Contains(a.stderr, "pool vg/pool is at level critical: metadata") {
			t.Fatalf("set %d more: status %d, %s", asked, a.status, a.stderr)
		}
		scatter(t, mapped)
	}
	fillPool(t, 0, mapped/2, 1000, nil) // there is no room for more data
	status := labtest.Run(t, "dmsetup", "status", "vg-pool-tpool")
	t.Logf("%d more are refused; then: %s", asked, strings.TrimSpace(status))
	if used := metadataUsed(t); asked == 0 || used >= size || !strings.Contains(status, " rw ") || strings.Contains(status, "needs_check") {
		t.Errorf("after %d sets that were refused, %.0f of %.0f bytes of metadata are used: %s", asked, used, size, status)
	}
}

// measured looks what each set has in vg/pool, each of which has what was overwritten after it, and extends it by hand.
func measured(t testing.TB, ids []string, mapped int) {
	t.Helper()
	var p api.PoolDetails
	decode(t, must(t, "pool", "show", "vg/pool", "--shares", "--json"), &p)
	if len(p.Snapshots) != len(ids) || p.Level != "ok" || p.Extension != "nobody" {
		t.Fatalf("the pool is %+v", p)
	}
	for i, s := range p.Snapshots {
		scattered := uint64(mapped) / 4 * 64 << 10
		if s.Set != ids[i] || s.Share == nil || s.Share.Mapped != uint64(mapped)*mib || s.Share.Own < scattered/2 || s.Share.Own > 2*scattered {
			t.Errorf("set %d: %+v, %+v", i, s, s.Share)
		}
	}
	if status := labtest.Run(t, "dmsetup", "status", "vg-pool-tpool"); strings.Fields(status)[6] != "-" {
		t.Errorf("a snapshot of the metadata is left: %s", status)
	}
	var after []api.Pool
	decode(t, must(t, "pool", "extend", "vg/pool", "--by", "8M", "--json"), &after)
	if len(after) != 1 || after[0].Size != p.Size+8*mib {
		t.Errorf("extended by hand: %+v", after)
	}
	if a := fermata(t, "pool", "extend", "vg/pool", "--by", "1T"); a.status != 1 || !strings.Contains(a.stderr, "vgextend") {
		t.Errorf("extended by more than there is: %d, %s", a.status, a.stderr)
	}
}

// takeRaw takes a set of a volume without a filesystem, which is of less consistency than there could be.
func takeRaw(t testing.TB, args ...string) (m api.Manifest) {
	t.Helper()
	a := fermata(t, append([]string{"snapshot", "create", "--json"}, args...)...)
	if a.status != 0 && a.status != 3 {
		t.Fatalf("no set was taken: exit status %d\n%s\n%s", a.status, a.stderr, journal(t))
	}
	decode(t, a.stdout, &m)
	t.Cleanup(func() { fermata(t, "snapshot", "delete", m.ID) })
	return m
}

// level of the only pool.
func level(t testing.TB) string {
	t.Helper()
	for line := range strings.Lines(metrics(t)) {
		if rest, found := strings.CutPrefix(line, `fermata_pool_level{level="`); found && strings.HasSuffix(line, " 1\n") {
			word, _, _ := strings.Cut(rest, `"`)
			return word
		}
	}
	return ""
}
