#!/bin/sh
# qmail-setup: makes what a server needs beside its programs; see qmail-setup(8).
set -eu
fatal() { echo "qmail-setup: fatal: $1" >&2; exit "${2-111}"; }
say() { echo "qmail-setup: $1"; }

one_user='' name=''
while getopts 1 option; do
	case $option in
	1) one_user=yes ;;
	*) fatal 'usage: qmail-setup [-1] [full.host.name]' 100 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || fatal 'usage: qmail-setup [-1] [full.host.name]' 100
name=${1-}
cd "$(dirname "$(readlink -f "$0")")/.." || exit 111
umask 022
split=23

# directory MODE OWNER:GROUP NAME...: made if absent; mode and owner are set either way
directory() {
	mode=$1 owner=$2
	shift 2
	mkdir -p "$@"
	[ "$one_user" ] || chown "$owner" "$@"
	chmod "$mode" "$@"
}

queue_folders() {
	i=0
	while [ $i -lt $split ]; do
		echo "queue/mess/$i queue/info/$i"
		i=$((i + 1))
	done
}

directory 0755 0:0 bin control users libexec
directory 0711 qmailq:qmails run
directory 0750 qmailq:qmails queue queue/journal queue/mess queue/info queue/new queue/damaged
# shellcheck disable=SC2046 # one word a name
directory 0750 qmailq:qmails $(queue_folders)
directory 0755 alias:nofiles alias alias/Maildir alias/Maildir/new alias/Maildir/cur alias/Maildir/tmp
if [ "$name" ]; then
	bin/config-fast "$name"
fi
[ -e control/defaultdelivery ] || echo ./Maildir/ >control/defaultdelivery
for box in postmaster mailer-daemon root; do
	[ -e alias/.qmail-$box ] || : >alias/.qmail-$box
done
