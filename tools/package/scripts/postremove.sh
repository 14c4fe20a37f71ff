#!/bin/sh
# After the files have gone. dpkg says "remove", later perhaps "purge"; rpm says 0.
set -eu

case "${1:-}" in
remove | purge | 0) ;;
*) exit 0 ;;
esac
if [ "$1" = purge ]; then
	# Manifests and reports. Snapshots are the volumes': they are left alone.
	rm -rf /var/lib/fermata
	for dir in policies.d writers.d providers.d ""; do
		rmdir --ignore-fail-on-non-empty "/etc/fermata/$dir" 2>/dev/null || :
	done
	if command -v lvs >/dev/null; then
		left=$(lvs --noheadings -o vg_name,lv_name,lv_tags 2>/dev/null | grep -c 'fermata\.' || :)
		if [ "${left:-0}" -gt 0 ]; then
			echo "fermata: $left snapshot(s) of Fermata's are left: lvs -o+lv_tags | grep fermata shows them, lvremove removes them" >&2
		fi
	fi
fi
journalctl --update-catalog >/dev/null 2>&1 || :
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
	systemctl reset-failed 'fermata*' >/dev/null 2>&1 || :
fi
