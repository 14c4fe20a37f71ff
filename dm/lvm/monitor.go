package lvm

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Autoextended reports whether dmeventd extends an LV ("vg/lv") by itself: it watches the LV, and the threshold of its kind is below
// 100 in LVM's configuration (lvmthin(7), "Automatically extend thin pool LV"). Profiles of single volumes are not looked at.
func (l *LVM) Autoextended(ctx context.Context, lv string) (bool, error) {
	if err := checkLV(lv); err != nil {
		return false, fmt.Errorf("cannot see whether dmeventd watches: %w", err)
	}
	out, err := l.run(ctx, "lvs", "--noheadings", "-o", "segtype,seg_monitor", "--separator", "|", lv)
	if err != nil {
		return false, err
	}
	setting, watched := parseMonitor(string(out))
	if !watched {
		return false, nil
	}
	out, err = l.run(ctx, "lvmconfig", "--typeconfig", "full", "activation/"+setting)
	if err != nil {
		return false, err
	}
	percent, err := parseThreshold(string(out))
	return percent < 100, err
}

// parseMonitor reads the first line of "SEGTYPE|MONITOR", and says which setting has the threshold of that type.
func parseMonitor(out string) (setting string, watched bool) {
	line, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	segtype, monitor, _ := strings.Cut(line, "|")
	setting = "snapshot_autoextend_threshold"
	if strings.TrimSpace(segtype) == "thin-pool" {
		setting = "thin_pool_autoextend_threshold"
	}
	return setting, strings.TrimSpace(monitor) == "monitored"
}

// parseThreshold reads "NAME=PERCENT".
func parseThreshold(out string) (int, error) {
	_, value, _ := strings.Cut(strings.TrimSpace(out), "=")
	percent, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("cannot read LVM's configuration: %.80q is no threshold", out)
	}
	return percent, nil
}
