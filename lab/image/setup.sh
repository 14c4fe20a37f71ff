#!/bin/sh
# Run by mmdebstrap at the end of the image's making, with the image's root
# directory as its argument: nothing may start by itself or ask anything, and
# what the guest's small address space cannot bear is made smaller.
set -eu
root=$1

# Servers are started by whoever wants them.
for unit in postgresql.service mariadb.service redis-server.service prometheus.service cron.service rsync.service borgmatic.timer; do
	rm -f "$root"/etc/systemd/system/*.wants/"$unit"
done
rm -f "$root"/etc/systemd/system/redis.service "$root"/etc/systemd/system/mysql.service \
	"$root"/etc/systemd/system/mysqld.service

# What an ordinary machine does on its own, a guest of a few minutes does not.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer logrotate.timer man-db.timer mdcheck_start.timer \
	mdcheck_continue.timer mdmonitor.service mdmonitor-oneshot.timer systemd-tmpfiles-clean.timer \
	getty@.service getty-static.service serial-getty@.service console-getty.service \
	networking.service systemd-networkd.service systemd-resolved.service systemd-timesyncd.service \
	systemd-pstore.service systemd-firstboot.service systemd-update-utmp.service \
	systemd-update-utmp-runlevel.service systemd-sysusers.service systemd-hwdb-update.service \
	systemd-journal-flush.service systemd-machine-id-commit.service ldconfig.service \
	sys-kernel-debug.mount sys-kernel-tracing.mount dev-mqueue.mount dev-hugepages.mount \
	systemd-ask-password-wall.path systemd-ask-password-console.path remote-fs.target \
	modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@fuse.service \
	modprobe@loop.service modprobe@efi_pstore.service sys-kernel-config.mount sys-fs-fuse-connections.mount \
	proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-modules-load.service \
	systemd-random-seed.service systemd-remount-fs.service systemd-sysctl.service \
	kmod-static-nodes.service lvm2-monitor.service blk-availability.service \
	systemd-user-sessions.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Most of what udev would look at when the guest starts are consoles.
mkdir -p "$root/etc/systemd/system/systemd-udev-trigger.service.d"
cat >"$root/etc/systemd/system/systemd-udev-trigger.service.d/lab.conf" <<'END'
[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --subsystem-match=block --subsystem-match=net --subsystem-match=misc
END
rm -rf "$root"/usr/lib/systemd/system-generators/systemd-gpt-auto-generator \
	"$root"/usr/lib/systemd/system-generators/systemd-cryptsetup-generator \
	"$root"/usr/lib/systemd/system-generators/systemd-integritysetup-generator \
	"$root"/usr/lib/systemd/system-generators/systemd-veritysetup-generator \
	"$root"/usr/lib/systemd/system-generators/systemd-hibernate-resume-generator \
	"$root"/usr/lib/systemd/system-generators/systemd-rc-local-generator \
	"$root"/usr/lib/systemd/system-generators/systemd-sysv-generator

mkdir -p "$root/etc/systemd/journald.conf.d"
cat >"$root/etc/systemd/journald.conf.d/lab.conf" <<'END'
[Journal]
Storage=volatile
RuntimeMaxUse=64M
RateLimitIntervalSec=0
END

# MariaDB reserves the address space for the largest pool; a guest's process has little.
if [ -d "$root/etc/mysql/mariadb.conf.d" ]; then
	cat >"$root/etc/mysql/mariadb.conf.d/99-lab.cnf" <<'END'
[mariadbd]
innodb_buffer_pool_size_max = 512M
innodb_buffer_pool_size = 64M
END
fi

echo lab >"$root/etc/hostname"
printf '127.0.0.1 localhost lab\n::1 localhost\n' >"$root/etc/hosts"
rm -f "$root/etc/resolv.conf"
: >"$root/etc/fstab"
mkdir -p "$root/var/lib/fermata"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*.bin
