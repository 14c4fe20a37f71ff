package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Pools says when pools and copy-on-write areas count as filling up, and what is done about it.
type Pools struct {
	Data     Thresholds // of a thin pool; default 80% and 90%
	Metadata Thresholds // of a thin pool; default 75% and 90%
	COW      Thresholds // copy-on-write areas; default 80% and 95%
	Group    Thresholds // volume groups that space is taken from; default 90% and 97%
	Acts     PoolActs   // default: none
}

// Thresholds are shares of the whole, in per cent, above 0 and at most 100; Warning is below Critical.
type Thresholds struct{ Warning, Critical float64 }

// Metrics says where metrics can be read; by default nowhere.
type Metrics struct {
	Listen    string // "host:port", or the absolute path of a socket; "" for none but systemd's
	WebConfig string // exporter-toolkit's file for TLS and passwords; absolute; "" for none
}

func defaultPools() Pools {
	return Pools{Data: Thresholds{80, 90}, Metadata: Thresholds{75, 90}, COW: Thresholds{80, 95}, Group: Thresholds{90, 97}, Acts: defaultPoolActs()}
}

var poolsSchema = mapping(append([]field[Pools]{
	key("data", func(p *Pools) *Thresholds { return &p.Data }, thresholds),
	key("metadata", func(p *Pools) *Thresholds { return &p.Metadata }, thresholds),
	key("cow", func(p *Pools) *Thresholds { return &p.COW }, thresholds),
	key("group", func(p *Pools) *Thresholds { return &p.Group }, thresholds),
}, poolActFields...)...)

var thresholds = mapping(
	key("warning", func(t *Thresholds) *float64 { return &t.Warning }, scalar("a share", parseShare)),
	key("critical", func(t *Thresholds) *float64 { return &t.Critical }, scalar("a share", parseShare)),
)

// parseShare reads a share of a whole: above 0% and at most 100%.
func parseShare(text string) (float64, error) {
	s, err := ParseSpace(text)
	if err != nil || s.Size > 0 || s.Percent == 0 {
		return 0, fmt.Errorf("cannot read %s as a share: write it like 80%%", quote(text))
	}
	return s.Percent, nil
}

var metricsSchema = mapping(
	key("listen", func(m *Metrics) *string { return &m.Listen }, text("an address", maxPath, checkListen)),
	key("web_config", func(m *Metrics) *string { return &m.WebConfig }, pathText()),
)

func checkListen(s string) error {
	if strings.HasPrefix(s, "/") {
		return checkAbsolute(s)
	}
	_, port, err := net.SplitHostPort(s)
	if n, e := strconv.Atoi(port); err != nil || e != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%s is no address: write 127.0.0.1:9948, [::1]:9948, :9948 for all, or the path of a socket", quote(s))
	}
	return nil
}

// checkDaemon looks at the keys that depend on each other.
func checkDaemon(d *decoder, c *Daemon) {
	for _, t := range []struct {
		name string
		at   Thresholds
	}{{"data", c.Pools.Data}, {"metadata", c.Pools.Metadata}, {"cow", c.Pools.COW}, {"group", c.Pools.Group}} {
		if path := join("pools", t.name); t.at.Warning >= t.at.Critical && !d.broken(path) {
			d.errorf(path, "the warning at %g%% has to come before critical at %g%%", t.at.Warning, t.at.Critical)
		}
	}
	checkPoolActs(d, c)
	if c.Metrics.WebConfig != "" && c.Metrics.Listen == "" {
		d.warnf("metrics.web_config", "this has no effect without metrics.listen, unless systemd passes a socket")
	}
}
