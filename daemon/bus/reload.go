package bus

import (
	"time"

	"github.com/fermata-project/fermata/daemon/api"
)

// Reload is how a daemon reads its configuration anew: as a whole, or not at all.
type Reload struct {
	// Check says what is wrong with the configuration as it stands in the files.
	Check func() error
	// Begin has the daemon end, and begin anew with it. No job runs, and none will be started.
	Begin func()
}

const (
	// reloadPatience is how long a reload waits for the jobs that run.
	reloadPatience = time.Minute
	reloadPause    = 50 * time.Millisecond
)

func (l *link) reload(c call) error {
	if l.Reload == nil {
		return api.Errorf(api.Failed, "this daemon cannot read its configuration anew")
	}
	check := func() error {
		if err := l.Reload.Check(); err != nil {
			return api.Errorf(api.Invalid, "the configuration is refused, the old one stays: %w", err)
		}
		return nil
	}
	if err := check(); err != nil {
		return err
	}
	for end := time.Now().Add(reloadPatience); !l.jobs.close(); {
		if time.Now().After(end) {
			return api.Errorf(api.Busy, "the old configuration stays: a job has been running for the whole of %s (fermata job list)", reloadPatience)
		}
		select {
		case <-time.After(reloadPause):
		case <-c.ctx.Done():
			return api.Errorf(api.Failed, "the connection to the bus was lost")
		}
	}
	if err := check(); err != nil { // it may have changed meanwhile
		l.jobs.open()
		return err
	}
	l.log.Info("the configuration is read anew")
	l.Reload.Begin()
	return nil
}
