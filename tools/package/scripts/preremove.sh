#!/bin/sh
# Before the files go: dpkg says "remove", rpm 0. With an upgrade nothing is stopped here: the daemon goes on until the new one is
# there.
set -eu

case "${1:-}" in
remove | 0) ;;
*) exit 0 ;;
esac
if ! [ -d /run/systemd/system ]; then exit 0; fi

# A daemon that does something for somebody, or has a set mounted for a backup, is left in peace.
busy() {
	if grep -q ' /run/fermata/exec/' /proc/self/mounts; then return 0; fi
	if fermata status --json 2>/dev/null | grep -q '"running":'; then return 0; fi
	fermata job list --json 2>/dev/null | grep -q '"state": "running"'
}

if systemctl is-active --quiet fermatad.service; then
	tries=0
	while busy; do
		if [ $tries = 0 ]; then echo "fermata: waiting for what is being done (fermata job list)"; fi
		tries=$((tries + 1))
		if [ $tries -gt "${FERMATA_UPGRADE_WAIT:-600}" ]; then
			echo "fermata: not removed: something is being done (see fermata job list), or fermata exec uses a set. Try again later" >&2
			exit 1
		fi
		sleep 1
	done
	sets=$(fermata snapshot list --quiet 2>/dev/null | wc -l)
	if [ "$sets" -gt 0 ]; then
		echo "fermata: $sets snapshot set(s) stay, with all their space. To find them without Fermata: lvs -o+lv_tags | grep fermata" >&2
	fi
fi
systemctl stop 'fermata-policy@*.timer' fermata-textfile.timer || :
systemctl disable --now fermatad.service fermata-exporter.service fermata-exporter.socket fermata-textfile.timer >/dev/null 2>&1 || :
# The guard last: it releases what is left before it ends.
systemctl disable --now fermata-guard.socket fermata-guard.service >/dev/null 2>&1 || :
