package main

import (
	"time"

	"github.com/fermata-project/fermata/daemon/journal"
	"github.com/fermata-project/fermata/daemon/thaw"
	"github.com/fermata-project/fermata/fsfreeze/guard"
)

const (
	dying       = 2 * time.Second // that a killed daemon gets to leave the kernel
	dyingPause  = 20 * time.Millisecond
	releaseTime = 10 * time.Second
)

// releaseLeft releases what a daemon left that died together with an earlier guard. The daemon's next start does so too,
// but while the root is frozen there may be none: whatever else a start needs may have to write there.
func releaseLeft() (thaw.Report, error) {
	for end := time.Now().Add(dying); ; time.Sleep(dyingPause) {
		held, open := inWindow()
		if !held {
			return thaw.Report{}, nil
		}
		if !open || time.Now().After(end) {
			return thaw.Run(thaw.Options{Journal: thaw.Journal, Notes: guard.Notes, Limit: releaseTime, Dead: true})
		}
	}
}

// inWindow reports whether a journal tells of something held, and whether somebody still has one of those open. What cannot
// be read of one is the daemon's to tell.
func inWindow() (held, open bool) {
	left, _ := journal.Leftovers(thaw.Journal)
	for _, l := range left {
		for _, step := range journal.Holding {
			if state, _, begun := l.Last(step); begun && state == journal.Doing {
				held, open = true, open || l.Open()
			}
		}
	}
	return held, open
}
