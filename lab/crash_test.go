package main

import (
	"strings"
	"testing"
)

// crash runs `lab crash` and wants a certain exit status.
func crash(t *testing.T, code int, args ...string) result {
	t.Helper()
	r := finish(t, lab(t, "crash", append([]string{"--kernel", testKernel(), "--timeout", "4m"}, args...)...))
	if r.code != code {
		t.Fatalf("exit status %d, want %d\n%s%s", r.code, code, r.out, r.stderr)
	}
	return r
}

// What was synced is on the disk after the power came back, what was only written is not, and nothing ran after the cut.
func TestGuestCrash(t *testing.T) {
	r := crash(t, 7, "--no-systemd", "--no-programs", "--disk", "64M", "--disk", "64M", "--",
		"sh", "-ec", `set -- $LAB_DISKS
			mkfs.ext4 -q $1
			mount $1 /mnt
			echo synced >/mnt/synced
			sync
			echo written >/mnt/written
			echo before
			sleep 0.5
			$LAB cut
			echo after
			sync`, "--",
		"sh", "-c", `echo disks $LAB_DISKS
			set -- $LAB_DISKS
			mount $1 /mnt
			ls /mnt
			umount /mnt
			e2fsck -fn $1 >/dev/null 2>&1 || echo damaged
			exit 7`)
	if want := "before\ndisks /dev/ubda /dev/ubdb\nlost+found\nsynced\n"; r.out != want {
		t.Errorf("output %q, want %q\n%s", r.out, want, r.stderr)
	}
}

func TestGuestNeverCut(t *testing.T) {
	r := crash(t, exitLab, "--no-systemd", "--no-programs", "--disk", "64M", "--", "sh", "-c", "exit 3", "--", "echo", "second")
	if !strings.Contains(r.stderr, "never cut: the first command ended with status 3") || r.out != "" {
		t.Errorf("output %q, %q", r.out, r.stderr)
	}
}

// A point that is acted upon is one at which its writer has stopped: of the records that a shell writes without a pause,
// the one that follows never comes.
func TestGuestStopsAtPoint(t *testing.T) {
	const records = `j=/run/fermata/journal/x.journal
		for i in 1 2 3; do echo '0 {"step":"s'$i'","state":"doing"}' >>$j; done`
	r := run(t, 0, "--no-systemd", "--", "sh", "-c", `$LAB at list -- sh -c "$0"; rm /run/fermata/journal/*
		cp /bin/sh /bin/victim
		$LAB at s2:doing KILL victim -- victim -c "$0"; echo $?
		grep -o 's.","state' /run/fermata/journal/x.journal; rm /run/fermata/journal/*
		$LAB at 9 KILL victim -- victim -c "$0"; echo $?`, records)
	want := "1 s1:doing\n2 s2:doing\n3 s3:doing\n137\ns1\",\"state\ns2\",\"state\n125\n"
	if r.out != want || !strings.Contains(r.stderr, "point 9 was never reached in 3 records") {
		t.Errorf("output %q, want %q\n%s", r.out, want, r.stderr)
	}
}

// A thin set is interrupted by a power cut, at several points. After the reboot, filesystems are clean, the set that was
// finished before is there with its contents, the other one is there as a whole or has left nothing, and sets can be taken
// again. That the first set's state directory is lost with the guest's root is a part of it.
func TestGuestCrashSet(t *testing.T) {
	const prepare = `
set -- $LAB_DISKS
systemctl start fermata-guard.socket
pvcreate -qq -ff -y $1
vgcreate -qq vg $1
lvcreate -qq -y -L 1g --thinpool vg/pool --poolmetadatasize 16m
for v in a b; do
	lvcreate -qq -y -V 200m --thin -n $v vg/pool
	mkfs.ext4 -q /dev/vg/$v
	mkdir -p /srv/$v
	mount /dev/vg/$v /srv/$v
	echo first >/srv/$v/file
done
fermata snapshot create -q /srv/a /srv/b
for v in a b; do echo second >/srv/$v/file; done
sync
exec $LAB at "$0" cut -- fermata snapshot create -q /srv/a /srv/b
`
	const look = `
echo armed: $(lvs --noheadings -o lv_tags | grep -c fermata.armed)
vgchange -qq -ay vg
for v in a b; do
	mkdir -p /srv/$v
	mount /dev/vg/$v /srv/$v
	echo third >/srv/$v/third
	umount /srv/$v
	e2fsck -fn /dev/vg/$v >/dev/null 2>&1 || echo "$v is damaged"
	mount /dev/vg/$v /srv/$v
done
systemctl start fermata-guard.socket
ids=$(fermata snapshot list -q | sort)
echo sets: $(echo "$ids" | wc -w)
first=$(echo "$ids" | head -n 1)
lvs --noheadings -o lv_tags | grep -c fermata.armed
echo LVs: $(lvs --noheadings -o lv_tags | grep -c fermata.set=)
fermata snapshot mount "$first" >/dev/null
cat /run/fermata/mnt/*/*/srv/a/file /run/fermata/mnt/*/*/srv/b/file
fermata snapshot umount "$first" >/dev/null
fermata snapshot create -q /srv/a /srv/b >/dev/null && echo again
`
	for point, complete := range map[string]bool{"window:doing": false, "window:done": false, "finalise:doing": false, "finalise:done": true} {
		t.Run(point, func(t *testing.T) {
			r := crash(t, 0, "--disk", "2G", "--", "sh", "-ec", prepare, point, "--", "sh", "-c", look)
			_, out, _ := strings.Cut(r.out, "armed: ") // after the first set's id
			want := "2\nsets: 1\n0\nLVs: 2\nfirst\nfirst\nagain\n"
			if complete {
				want = "0\nsets: 2\n0\nLVs: 4\nfirst\nfirst\nagain\n"
			}
			if out != want {
				t.Errorf("output %q, want …%q\n%s", r.out, want, r.stderr)
			}
		})
	}
}
