#!/bin/sh
# Before the files go: dpkg says "remove", rpm 0. With an upgrade nothing is stopped here: the daemon goes on until the new one is
# there.
set -eu

case "${1:-}" in
remove | 0) ;;
*) exit 0 ;;
esac
if ! [ -d /run/systemd/system ]; then exit 0; fi

# Nothing goes from under who uses it. A daemon that has ended because nobody needed it is started to answer; one that cannot be asked
# does nothing for anybody.
busy() {
	doing=$(fermata status --busy stop 2>/dev/null)
	[ $? -eq 75 ]
}
tries=0
while busy; do
	if [ $tries = 0 ]; then printf 'fermata: waiting for what is being done, and for sets to be unmounted:\n%s\n' "$doing"; fi
	tries=$((tries + 1))
	if [ $tries -gt "${FERMATA_UPGRADE_WAIT:-600}" ]; then
		printf 'fermata: not removed:\n%s\nfermata: try again later, or end it: fermata snapshot umount, fermata job cancel\n' "$doing" >&2
		exit 1
	fi
	sleep 1
done
sets=$(fermata snapshot list --quiet 2>/dev/null | wc -l)
if [ "$sets" -gt 0 ]; then
	echo "fermata: $sets snapshot set(s) stay, with all their space. To find them without Fermata: lvs -o+lv_tags | grep fermata" >&2
fi
systemctl stop 'fermata-policy*.timer' fermata-textfile.timer || :
systemctl disable --now fermatad.service fermata-exporter.service fermata-exporter.socket fermata-textfile.timer >/dev/null 2>&1 || :
# The guard last: it releases what is left before it ends.
systemctl disable --now fermata-guard.socket fermata-guard.service >/dev/null 2>&1 || :
# What is switched off here is to be switched on again if the package comes back: see postinstall.sh.
if [ -d /var/lib/fermata ]; then : >/var/lib/fermata/removed; fi
