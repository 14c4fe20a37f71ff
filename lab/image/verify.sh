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
for timer in "$root"/run/systemd/system/*.timer; do
	set -- "$@" "${timer#"$root"}"
done
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
for made in fermata-policy@db.timer fermata-policy@db.service.d/50-schedule.conf; do
	printf '[Unit]\nNoSuchThing=1\n' >>"$root/run/systemd/system/$made"
	case $made in
	*.timer) unit=/run/systemd/system/$made ;;
	*) unit=/usr/lib/systemd/system/${made%.d/*} ;;
	esac
	said=$(verify "$unit") || :
	case $said in *"$made"*NoSuchThing*) ;; *) fail "what the generator makes is not read: $said" ;; esac
done
