package lvm

import "testing"

func TestMonitor(t *testing.T) {
	for _, c := range []struct {
		out, setting string
		watched      bool
	}{
		{"  thin-pool|monitored\n", "thin_pool_autoextend_threshold", true},
		{"  thin-pool|not monitored\n", "thin_pool_autoextend_threshold", false},
		{"  linear|\n", "snapshot_autoextend_threshold", false},
		{"  linear|monitored\n  linear|\n", "snapshot_autoextend_threshold", true},
		{"", "snapshot_autoextend_threshold", false},
	} {
		if setting, watched := parseMonitor(c.out); setting != c.setting || watched != c.watched {
			t.Errorf("%q: %s, %v", c.out, setting, watched)
		}
	}
	if n, err := parseThreshold("thin_pool_autoextend_threshold=70\n"); n != 70 || err != nil {
		t.Error(n, err)
	}
	for _, out := range []string{"", "x=", "x=y", "70"} {
		if _, err := parseThreshold(out); err == nil {
			t.Errorf("%q is taken", out)
		}
	}
}
