#!/bin/sh
# After the files are there. dpkg says "configure", and the version before with an upgrade, and after a removal too; rpm says 1, with
# an upgrade 2.
set -eu
removed=/var/lib/fermata/removed

case "${1:-}" in
configure) if [ -n "${2:-}" ]; then upgrade=yes; else upgrade=no; fi ;;
1) upgrade=no ;;
2) upgrade=yes ;;
*) exit 0 ;;
esac

if [ -e "$removed" ]; then
	rm -f "$removed"
	upgrade=no
fi

systemd-tmpfiles --create fermata.conf || :
journalctl --update-catalog >/dev/null 2>&1 || :
if [ "$upgrade" = no ]; then
	# What the system's presets say: Debian switches services on, others do not.
	systemctl preset fermata-guard.socket fermatad.service >/dev/null 2>&1 || :
fi
if ! [ -d /run/systemd/system ]; then exit 0; fi

systemctl daemon-reload
systemctl reload dbus.service >/dev/null 2>&1 || :
udevadm control --reload >/dev/null 2>&1 || :

if [ "$upgrade" = no ]; then
	for unit in fermata-guard.socket fermatad.service; do
		systemctl is-enabled --quiet "$unit" || continue
		if command -v deb-systemd-invoke >/dev/null; then
			deb-systemd-invoke start "$unit" || :
		else
			systemctl start "$unit" || :
		fi
	done
	if systemctl is-active --quiet fermatad.service; then
		fermata policy apply >/dev/null || : # of a configuration that was there before
	fi
	exit 0
fi

systemctl is-active --quiet fermatad.service || exit 0
# What a restart would end comes to its own end first. A daemon that cannot be asked does nothing for anybody.
busy() {
	doing=$(fermata status --busy restart 2>/dev/null)
	[ $? -eq 75 ]
}
tries=0
while busy; do
	if [ $tries = 0 ]; then printf 'fermata: waiting for what is being done:\n%s\n' "$doing"; fi
	tries=$((tries + 1))
	if [ $tries -gt "${FERMATA_UPGRADE_WAIT:-600}" ]; then
		printf 'fermata: something is still being done:\n%s\nfermata: the daemon goes on as it was. Restart it later: systemctl try-restart fermata-guard fermatad\n' "$doing" >&2
		exit 0
	fi
	sleep 1
done
# In one transaction: the units' order stops the daemon first and starts it last.
systemctl try-restart fermata-guard.service fermatad.service fermata-exporter.service || :
