//go:build lab

package system

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fermata-project/fermata/lab/labtest"
)

// A disk stops answering. Sets end in time and say why; what waits for the disk is one flush and one command, which the
// status names, however often it is asked for; reading verbs go on; and when the disk is back, all is as before.
func TestDiskStopsAnswering(t *testing.T) {
	// A pool that is at its metadata when the disk goes does not answer questions either; an idle one may be.
	for name, busy := range map[string]bool{"idle": false, "busy pool": true} {
		t.Run(name, func(t *testing.T) { diskStopsAnswering(t, busy) })
	}
}

func diskStopsAnswering(t *testing.T, busy bool) {
	labtest.CheckClean(t)
	labtest.Run(t, "systemctl", "start", "fermata-guard.socket")
	disk := labtest.Disks(t)[0]
	// Not from its first sector, or LVM would find its label on both.
	labtest.Run(t, "dmsetup", "create", "disk", "--table", "0 2097152 linear "+disk+" 2048")
	t.Cleanup(func() { labtest.Run(t, "dmsetup", "remove", "--retry", "disk") })
	labtest.Run(t, "pvcreate", "-qq", "-ff", "-y", "/dev/mapper/disk")
	labtest.Run(t, "vgcreate", "-qq", "vg", "/dev/mapper/disk")
	t.Cleanup(func() {
		labtest.Run(t, "vgremove", "-qq", "-ff", "-y", "vg")
		labtest.Run(t, "pvremove", "-qq", "-ff", "-y", "/dev/mapper/disk")
	})
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "600m", "--thinpool", "vg/pool", "--poolmetadatasize", "16m")
	labtest.Run(t, "lvcreate", "-qq", "-y", "-L", "64m", "-n", "raw", "vg")
	v := labtest.Thin(t, "vg", "v1", "256m", "ext4")
	configure(t, map[string]string{
		"policies.d/fs.yaml":  "volumes: [/srv/v1]\nlimits: {prepare: 4s}\n",
		"policies.d/raw.yaml": "volumes: [/dev/vg/raw]\nconsistency: crash\nlimits: {prepare: 4s}\n",
	})
	old := create(t, v.Point)
	write(t, filepath.Join(v.Point, "f"), "dirty")
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; busy; i++ {
			select {
			case <-stop:
				return
			default:
				labtest.Try(t, "dd", "if=/dev/zero", "of="+filepath.Join(v.Point, "grows"), "bs=64k", "count=1", "seek="+strconv.Itoa(i%1000), "conv=notrunc,fsync")
			}
		}
	}()
	if busy {
		time.Sleep(2 * time.Second)
	}
	labtest.Run(t, "dmsetup", "suspend", "--nolockfs", "disk")
	back := sync.OnceFunc(func() {
		close(stop)
		labtest.Try(t, "dmsetup", "resume", "disk")
		<-stopped
	})
	t.Cleanup(back)
	refused := func(want string, status int, args ...string) {
		t.Helper()
		out, got := labtest.Try(t, append([]string{"timeout", "60", "fermata"}, args...)...)
		if got == 124 {
			o, _ := labtest.Try(t, "sh", "-c", "timeout 5 fermata status --json; P=$(pidof fermatad); for x in /proc/$P/task/*; do echo $x $(cat $x/stack) $(grep State $x/status); done | grep 'D (disk'; timeout 5 ps axo pid,stat,wchan:30,args | grep ' D'; kill -QUIT $P; sleep 2; journalctl -u fermatad --no-pager -o cat -n 1000 | grep -A1 fermata/")
			t.Log(o)
		}
		if got != status || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%v: exit status %d, want %d; message %q, want %q\n%s", args, got, status, out, want, journal(t))
		}
	}
	const advice = " (a disk below may have stopped answering: dmesg)"
	const stuck = "(a flush of /srv/v1|provider thin, asked for room,) has not returned for " // whichever comes first
	refused(`(cannot write out /srv/v1|cannot ask provider thin for room): it has not returned for `, 4, "snapshot", "create", "--policy", "fs")
	for range 3 {
		refused(stuck, 1, "snapshot", "create", "--policy", "fs")
	}
	refused("not prepared within 4s", 4, "snapshot", "create", "--policy", "raw")
	time.Sleep(6 * time.Second) // a command that was left a moment ago is waited for
	for range 2 {
		refused(`\) has not returned, `, 1, "snapshot", "create", "--policy", "raw")
		refused(`\) has not returned, `, 1, "snapshot", "delete", old.ID)
		refused(`\) has not returned, `, 1, "snapshot", "mount", old.ID)
	}
	for _, verb := range [][]string{{"snapshot", "list"}, {"snapshot", "show", old.ID}, {"volume", "list"}, {"provider", "list"}} {
		refused("", 0, verb...)
	}
	if out, status := labtest.Try(t, "timeout", "60", "fermata", "pool", "list"); status != 0 && !strings.Contains(out, "cannot see the pools of provider thin: ") {
		t.Errorf("pool list: exit status %d, %s", status, out)
	}
	out, _ := labtest.Try(t, "pgrep", "-c", "-x", "lvm")
	if n, err := strconv.Atoi(strings.TrimSpace(out)); err != nil || n != 1 {
		t.Errorf("%s lvm commands run, want 1 (%v)", out, err)
	}
	told := problems(t)
	if !regexp.MustCompile(stuck).MatchString(told) || !strings.Contains(told, advice) || !strings.Contains(told, ") has not returned, ") {
		t.Errorf("problems: %q", told)
	}
	if list := sets(t); len(list) != 1 || list[0].ID != old.ID {
		t.Errorf("sets: %+v", list)
	}

	back()
	eventually(t, "nothing waits for the disk any more", func() bool {
		return !strings.Contains(problems(t), "has not returned")
	})
	v.Writable(t)
	must(t, "snapshot", "delete", create(t, v.Point).ID) // without the short limit: the guest may be slow
	must(t, "snapshot", "delete", old.ID)
	if left, p := snapshotLVs(t), problems(t); left != "" || len(sets(t)) != 0 || p != "" {
		t.Errorf("left behind: %s, %d sets, problems %q", left, len(sets(t)), p)
	}
}
