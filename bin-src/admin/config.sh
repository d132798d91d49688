#!/bin/sh
# config: config-fast with the name that the DNS, or else the host itself, has for this host; see config-fast(8).
set -eu
unset CDPATH	# a cd to bin/.. would look for it elsewhere
self=$0
[ ! -h "$self" ] || self=$(readlink -f "$self")
cd -P "$(dirname "$self")/.." || exit 111

name=$(hostname -f 2>/dev/null) || name=
case $name in
*.*) ;;
*)
	echo "config: the full name of this host is unknown (hostname -f says '$name')." >&2
	echo 'config: put it into /etc/hosts or the DNS, or say it: config-fast full.host.name' >&2
	exit 100
	;;
esac
exec bin/config-fast "$name"
