//go:build lab

package system

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/fermata-project/fermata/lab/labtest"
)

// scrapeConfig has Prometheus look every second: a guest's pool is full in less than the minute that is usual.
const scrapeConfig = `
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: fermata
    static_configs: [{targets: ["127.0.0.1:9948"]}]
`

const prometheusAddress = "127.0.0.1:9090"

// startPrometheus runs Debian's Prometheus with the rules as they are shipped, but that an alert fires after a second, until
// the end of the test.
func startPrometheus(t *testing.T) {
	t.Helper()
	labtest.Run(t, "ip", "link", "set", "lo", "up")
	labtest.Run(t, "systemctl", "start", "fermata-exporter.socket")
	t.Cleanup(func() { labtest.Run(t, "systemctl", "stop", "fermata-exporter.socket", "fermata-exporter.service") })
	dir := t.TempDir()
	shipped, err := os.ReadFile("../../docs/prometheus/fermata.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules, config := filepath.Join(dir, "rules.yml"), filepath.Join(dir, "prometheus.yml")
	for name, text := range map[string]string{
		rules:  regexp.MustCompile(`for: \d+[smh]`).ReplaceAllString(string(shipped), "for: 1s"),
		config: fmt.Sprintf(scrapeConfig, rules),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	p := exec.Command("prometheus", "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+prometheusAddress)
	p.Stdout, p.Stderr = log, log
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Signal(syscall.SIGTERM)
		p.Wait()
		log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("prometheus:\n%s", said)
		}
	})
}

// firing are the names of the alerts that Prometheus tells people of now, with the pools that they are about.
func firing(t testing.TB) []string {
	t.Helper()
	r, err := http.Get("http://" + prometheusAddress + "/api/v1/alerts")
	if err != nil {
		return nil // it does not listen yet
	}
	defer r.Body.Close()
	var answer struct {
		Data struct {
			Alerts []struct {
				Labels map[string]string
				State  string
			}
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode == http.StatusServiceUnavailable { // not ready
		return nil
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v\n%s", r.Status, err, body)
	}
	var out []string
	for _, a := range answer.Data.Alerts {
		if a.State == "firing" {
			out = append(out, strings.TrimSpace(a.Labels["alertname"]+" "+a.Labels["pool"]))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A writer fills the pool; Prometheus, which scrapes the exporter, calls somebody; the pool extends itself; the alert ends.
func TestPrometheus(t *testing.T) {
	labtest.CheckClean(t)
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	labtest.ThinVG(t, "vg", "200m")
	v := labtest.Thin(t, "vg", "v1", "400m", "ext4")
	configure(t, map[string]string{"fermata.yaml": "pools:\n  extend: {at: critical, by: 50%}\n", "policies.d/db.yaml": "volumes: [" + v.Point + "]\n"})
	create(t, "--policy", "db")
	startPrometheus(t)
	warning := "FermataPoolDataWarning vg/pool"
	fires := func(alert string) func() bool { return func() bool { return slices.Contains(firing(t), alert) } }

	labtest.Run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(v.Point, "f"), "bs=1M", "count=140", "conv=fsync", "status=none")
	eventually(t, warning, fires(warning))
	t.Logf("firing: %q", firing(t))
	labtest.Run(t, "dd", "if=/dev/urandom", "of="+filepath.Join(v.Point, "g"), "bs=1M", "count=20", "conv=fsync", "status=none")
	is(t, `fermata_pool_acts_total{act="extend-data",outcome="ok",pool="vg/pool"}`, 1)
	eventually(t, "the end of "+warning, func() bool { return !fires(warning)() })

	labtest.Run(t, "systemctl", "stop", "fermatad")
	eventually(t, "FermataDown", fires("FermataDown"))
	must(t, "status") // the bus starts it again
	eventually(t, "the end of all alerts of Fermata", func() bool { return !fires("FermataDown")() })
}
