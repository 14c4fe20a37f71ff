#!/bin/sh
# Run in a mount namespace of its own: sh -euc, with the root directory of another systemd, and the units that it is to read. It says
# its version, and fails if there is anything to say of a unit.
root=$1
shift
for d in proc sys dev; do
	mkdir -p "$root/$d"
	mount --rbind "/$d" "$root/$d"
done
mkdir -p "$root/run"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/systemd/system"
chroot "$root" systemd-analyze --version | head -n 1
# Where systemd-analyze looks: in the place of the generators it has an empty one of its own.
chroot "$root" /usr/lib/systemd/system-generators/fermata-generator /run/systemd/system
verify() {
	chroot "$root" systemd-analyze verify --man=no "$@" 2>&1
}
fail() {
	printf '%s\n' "$@" >&2
	exit 1
}

if said=$(verify "$@"); then status=0; else status=$?; fi
if [ -n "$said" ] || [ $status != 0 ]; then fail "exit status $status" "$said"; fi

# What is wrong would have been said: in a unit, and in what the generator has made.
said=$(verify /canary.service) || :
case $said in *NoSuchThing*) ;; *) fail "a wrong unit goes unnoticed: $said" ;; esac
for kind in timer service; do
	printf '[Unit]\nNoSuchThing=1\n' >>"$root/run/systemd/system/fermata-policy@db.$kind.d/50-schedule.conf"
	said=$(verify "/usr/lib/systemd/system/fermata-policy@db.$kind") || :
	case $said in *50-schedule.conf*NoSuchThing*) ;; *) fail "what the generator makes is not read: $said" ;; esac
done
