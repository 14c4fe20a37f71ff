//go:build lab

package system

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fermata-project/fermata/daemon/api"
	"github.com/fermata-project/fermata/lab/labtest"
)

const exporter = "/usr/libexec/fermata/fermata-exporter"

// metrics are the daemon's, one to a line, as its exporter prints them.
func metrics(t testing.TB) string {
	t.Helper()
	return labtest.Run(t, exporter, "--textfile", "-")
}

// value of one series, and whether it is there.
func value(t testing.TB, series string) (float64, bool) {
	t.Helper()
	for line := range strings.Lines(metrics(t)) {
		if rest, found := strings.CutPrefix(line, series+" "); found {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v, true
		}
	}
	return 0, false
}

// is waits until a series has a value.
func is(t testing.TB, series string, want float64) {
	t.Helper()
	eventually(t, series, func() bool { v, ok := value(t, series); return ok && v == want })
}

// A pool fills up without an event of the kernel's, is extended, loses a set, hangs with LVM, and vanishes: the daemon knows.
func TestPools(t *testing.T) {
	labtest.CheckClean(t)
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	labtest.ThinVG(t, "vg", "200m")
	v := labtest.Thin(t, "vg", "v1", "400m", "ext4")
	configure(t, map[string]string{"policies.d/db.yaml": "volumes: [" + v.Point + "]\n", "policies.d/idle.yaml": "volumes: [/nowhere]\n"})
	must(t, "status")
	is(t, `fermata_pool_level{level="ok",pool="vg/pool"}`, 1)
	create(t, "--policy", "db")
	is(t, `fermata_sets_total{outcome="ok",policy="db"}`, 1)
	is(t, `fermata_snapshot_sets{policy="db"}`, 1)
	is(t, `fermata_sets_total{outcome="ok",policy="idle"}`, 0)
	if n, _ := value(t, `fermata_freeze_window_seconds_count{policy="db"}`); n != 1 {
		t.Errorf("%v freeze windows", n)
	}

	labtest.Run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(v.Point, "f"), "bs=1M", "count=140", "conv=fsync", "status=none")
	began := time.Now()
	is(t, `fermata_pool_level{level="warning",pool="vg/pool"}`, 1)
	t.Logf("seen %v after the last write", time.Since(began).Round(10*time.Millisecond))
	if time.Since(began) > 3*time.Second {
		t.Log(journal(t))
	}
	var list []api.Pool
	decode(t, must(t, "pool", "list", "--json"), &list)
	if len(list) != 1 || list[0].Level != "warning" || !strings.HasPrefix(list[0].Reason, "data 8") {
		t.Errorf("pool list: %+v", list)
	}
	if log := journal(t); !strings.Contains(log, "pool=vg/pool level=warning was=ok") {
		t.Errorf("the journal does not tell:\n%s", log)
	}
	groupAsLVM(t, "vg")
	labtest.Run(t, "lvextend", "-qq", "-L", "+100m", "vg/pool")
	is(t, `fermata_pool_level{level="ok",pool="vg/pool"}`, 1)
	groupAsLVM(t, "vg")

	// Somebody holds LVM's lock: a scrape does not notice.
	lock, err := os.OpenFile("/run/lock/lvm/V_vg", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	checked := exec.Command("promtool", "check", "metrics")
	checked.Stdin = strings.NewReader(metrics(t))
	if out, err := checked.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	lock.Close()

	// Prometheus' way, by a socket of systemd, to a process without rights.
	labtest.Run(t, "ip", "link", "set", "lo", "up")
	labtest.Run(t, "systemctl", "start", "fermata-exporter.socket")
	t.Cleanup(func() { labtest.Run(t, "systemctl", "stop", "fermata-exporter.socket", "fermata-exporter.service") })
	scrape := func() string { return get(t, "/metrics", http.StatusOK) }
	if got := scrape(); !strings.Contains(got, "\nfermata_up 1\n") || !strings.Contains(got, `fermata_pool_level{level="ok",pool="vg/pool"} 1`) {
		t.Errorf("by HTTP:\n%s", got)
	}
	if got := page(t, http.StatusOK); !strings.Contains(got, "vg/pool") || !strings.Contains(got, "frozen for ") || !strings.Contains(got, `<span class="badge ok">ok</span>`) {
		t.Errorf("the status page:\n%s", got)
	}
	pid := strings.TrimSpace(labtest.Run(t, "systemctl", "show", "-P", "MainPID", "fermata-exporter"))
	if status, err := os.ReadFile("/proc/" + pid + "/status"); err != nil || strings.Contains(string(status), "Uid:\t0\t") {
		t.Errorf("the exporter is root, or nothing: %v", err)
	}
	// While filesystems are really frozen, and somebody waits to write there, both answer.
	a := fermata(t, "quiesce", "--for", "1m", "--detach", v.Point)
	if a.status != 0 {
		t.Fatalf("no hold: %d, %s", a.status, a.stderr)
	}
	write := exec.Command("sh", "-c", "echo x >"+filepath.Join(v.Point, "late"))
	if err := write.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the write waits", func() bool { return strings.Contains(labtest.Blocked(), "sh") })
	if got := scrape(); !strings.Contains(got, "\nfermata_filesystems_frozen 1\n") || !strings.Contains(got, `fermata_pool_level{level="ok",pool="vg/pool"} 1`) {
		t.Errorf("during a freeze:\n%s", got)
	}
	if got := page(t, http.StatusOK); !strings.Contains(got, "vg/pool") || !strings.Contains(got, "taking ") {
		t.Errorf("the status page during a freeze:\n%s", got)
	}
	must(t, "release", strings.TrimSpace(a.stdout))
	if err := write.Wait(); err != nil {
		t.Error(err)
	}

	labtest.Run(t, "systemctl", "stop", "fermatad")
	if got := scrape(); !strings.Contains(got, "\nfermata_up 0\n") && !strings.HasPrefix(got, "# HELP fermata_up") {
		t.Errorf("without a daemon:\n%s", got)
	}
	if got := page(t, http.StatusServiceUnavailable); !strings.Contains(got, "The daemon does not answer") || !strings.Contains(got, "vg/pool") {
		t.Errorf("the status page without a daemon:\n%s", got)
	}
	must(t, "status") // the bus starts it again

	// Others rename and remove what is watched, and what sets are made of.
	labtest.Run(t, "umount", v.Point)
	labtest.Run(t, "vgrename", "-qq", "vg", "vg2")
	is(t, `fermata_pool_level{level="ok",pool="vg2/pool"}`, 1)
	groupAsLVM(t, "vg2")
	eventually(t, "the set's new name", func() bool { return strings.Contains(journal(t), "snapshots are listed anew") })
	if list := sets(t); len(list) != 1 || list[0].State != api.Complete {
		t.Errorf("after the group was renamed: %+v", list)
	}
	if got := metrics(t); strings.Contains(got, `"vg/pool"`) {
		t.Errorf("a pool that was renamed is still there:\n%s", got)
	}
	labtest.Run(t, "lvremove", "-qq", "-ff", "-y", "vg2/pool")
	eventually(t, "the pool is forgotten", func() bool { return !strings.Contains(metrics(t), "/pool\"") })
	is(t, `fermata_snapshot_sets{policy="db"}`, 0)
	labtest.Run(t, "vgrename", "-qq", "vg2", "vg")
}

// groupAsLVM waits until the daemon, which asks no LVM, knows of a volume group what LVM knows.
func groupAsLVM(t testing.TB, group string) {
	t.Helper()
	words := strings.Fields(labtest.Run(t, "vgs", "--noheadings", "--nosuffix", "--units", "b", "-o", "vg_size,vg_free", group))
	for i, name := range []string{"size", "free"} {
		want, err := strconv.ParseFloat(words[i], 64)
		if err != nil {
			t.Fatal(err)
		}
		is(t, `fermata_volume_group_`+name+`_bytes{group="`+group+`"}`, want)
	}
}

// page is the exporter's status page.
func page(t *testing.T, status int) string {
	t.Helper()
	return get(t, "/", status)
}

// get is what the exporter answers.
func get(t *testing.T, path string, status int) string {
	t.Helper()
	r, err := http.Get("http://127.0.0.1:9948" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != status {
		t.Fatalf("%s, %v\n%s", r.Status, err, body)
	}
	return string(body)
}

// The alert rules do what their tests say.
func TestAlertRules(t *testing.T) {
	const dir = "../../docs/prometheus/"
	if out := labtest.Run(t, "promtool", "test", "rules", dir+"fermata.test.yml", dir+"fermata.weeks.test.yml"); !strings.Contains(out, "SUCCESS") || strings.Contains(out, "FAILED") {
		t.Error(out)
	}
}
