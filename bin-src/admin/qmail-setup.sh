#!/bin/sh
# qmail-setup: makes what a server needs beside its programs; see qmail-setup(8).
set -eu
unset CDPATH	# a cd to bin/.. would look for it elsewhere
fatal() { echo "qmail-setup: fatal: $1" >&2; exit "${2-111}"; }
say() { echo "qmail-setup: $1"; }

one_user=''
while getopts 1 option; do
	case $option in
	1) one_user=yes ;;
	*) fatal 'usage: qmail-setup [-1] [full.host.name]' 100 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -le 1 ] || fatal 'usage: qmail-setup [-1] [full.host.name]' 100
name=${1-}
self=$0
[ ! -h "$self" ] || self=$(readlink -f "$self")
cd -P "$(dirname "$self")/.." || exit 111
umask 022
split=23	# QUEUE_SPLIT of queue/protocol.h
top=$(pwd -P)
root=${DESTDIR-}
root=${root%/}
home=${PWD#"$root"}	# as it will be called on the real server

# --- users and groups ------------------------------------------------------
# By /etc/passwd and /etc/group, where the programs look for them; with $DESTDIR its own, which the tools of this host write.

# uid_of USER, gid_of GROUP: the number, or nothing
uid_of() { awk -F: -v n="$1" '$1 == n { print $3; exit }' "$root/etc/passwd"; }
gid_of() { awk -F: -v n="$1" '$1 == n { print $3; exit }' "$root/etc/group"; }

group() {
	[ -z "$(gid_of "$1")" ] || return 0
	groupadd ${root:+--prefix "$root"} --system "$1"
	say "group $1"
}

# user NAME GROUP HOME
user() {
	[ -z "$(uid_of "$1")" ] || return 0
	useradd ${root:+--prefix "$root"} --system --no-create-home --no-user-group --gid "$(gid_of "$2")" \
	    --home-dir "$3" --shell /usr/sbin/nologin --comment tambo "$1"
	say "user $1"
}

users() {
	[ "$(id -u)" = 0 ] || fatal 'only root can make users; for a private server of one user: qmail-setup -1' 100
	for g in qmail nofiles qmails; do
		group "$g"
	done
	user alias nofiles "$home/alias"
	for u in qmaild qmaill qmailp qmailr qmailt qmailk qmailm qmailu; do
		user "$u" nofiles "$home"
	done
	user qmailq qmail "$home"
	user qmails qmails "$home"
	# who can enter the queue: qmails, and nobody beside it
	members=$(if [ "$root" ]; then grep '^qmails:' "$root/etc/group"; else getent group qmails; fi | cut -d: -f4)
	case $members in
	''|qmails) ;;
	*) fatal "the group qmails has members ($members): it opens the queue, and has to be empty" ;;
	esac
}

# --- directories -----------------------------------------------------------

# enter NAME: goes into the directory, which has to be where its name says. Below what is another user's he may have put a link, through
# which root would give him something else; what is done in . then is done to what was looked at.
enter() {
	cd -P "$1" || exit 111
	case $1 in
	/*) ;;	# its parents are root's
	*) [ "$(pwd -P)" = "$top/${1#./}" ] || [ "$1" = . ] || fatal "$home/$1 is a link: look who made it, and remove it" ;;
	esac
}

# directory MODE USER GROUP NAME...: made if absent, in a parent that is there; mode and owner are set either way
directory() {
	mode=$1 user=$2 group=$3
	shift 3
	owner=
	[ "$one_user" ] || owner=$(uid_of "$user"):$(gid_of "$group")
	for directory; do
		[ -d "$directory" ] || (enter "$(dirname "$directory")" && mkdir "${directory##*/}")
		(enter "$directory" && { [ ! "$owner" ] || chown "$owner" .; } && chmod "$mode" .)
	done
}

# Another qmail's queue stays as it was, beside ours.
keep_old_queue() {
	old=
	for sign in queue/pid queue/intd queue/todo queue/lock/sendmutex; do
		[ ! -e $sign ] || old=yes
	done
	[ "$old" ] || return 0
	if [ -e queue/lock/sendmutex ] && command -v flock >/dev/null && ! flock -n queue/lock/sendmutex true; then
		fatal "a qmail-send works on $home/queue: stop it first"
	fi
	[ ! -e queue.qmail ] || fatal "$home/queue is a queue of qmail, and $home/queue.qmail exists already"
	mv queue queue.qmail
	say "the queue of qmail is kept as $home/queue.qmail; see INSTALL"
}

queue_folders() {
	i=0
	while [ $i -lt $split ]; do
		echo "queue/mess/$i queue/info/$i"
		i=$((i + 1))
	done
}

directories() {
	directory 0755 root root bin control users libexec service
	directory 0711 qmailq qmails run
	directory 0711 qmailp nofiles run/qmail-rcptd
	directory 0711 qmailt nofiles run/qmail-tlsd
	directory 0711 qmailk nofiles run/qmail-keyd
	directory 0711 qmailm nofiles run/qmail-mtastsd
	directory 0711 root root run/qmail-authd
	directory 0711 qmailu nofiles run/qmail-submitd
	directory 0700 qmailk nofiles tls
	directory 0700 qmailk nofiles tls/client
	directory 0750 qmailq qmails queue queue/journal queue/mess queue/info queue/new queue/damaged
	# shellcheck disable=SC2046 # one word a name
	directory 0750 qmailq qmails $(queue_folders)
	directory 0755 alias nofiles alias
	directory 0700 alias nofiles alias/Maildir alias/Maildir/new alias/Maildir/cur alias/Maildir/tmp
	if [ ! "$one_user" ] && [ ! -e log ] && [ ! -h log ]; then
		mkdir -p "$root/var/log"
		directory 0755 root root "$root/var/log/qmail"
		ln -s /var/log/qmail log
	fi
	if [ "$one_user" ]; then directory 0755 root root log; fi
	for service in qmail-queued qmail-rcptd qmail-keyd qmail-tlsd qmail-authd qmail-submitd qmail-mtastsd qmail-send qmail-smtpd qmail-qmtpd qmail-qmqpd \
	    qmail-submission qmail-submissions qmail-popup qmail-pop3s; do
		if [ -h log ]; then directory 0700 qmaill nofiles "$root$(readlink log)/$service"
		else directory 0700 qmaill nofiles "log/$service"; fi
	done
}

# --- files -----------------------------------------------------------------

# What qmail-remote remembers of dead hosts; the directory is not qmailr's. qmail-rspawn gives it its size and empties it.
remembered_hosts() {
	if [ -h run/tcpto ] || [ ! -f run/tcpto ]; then
		rm -f run/tcpto
		(umask 022; set -C; : >run/tcpto)
	fi
	[ "$one_user" ] || chown -h "$(uid_of qmailr):$(gid_of nofiles)" run/tcpto
}

control_files() {
	if [ "$name" ]; then
		bin/config-fast "$name"
	elif [ ! -e control/me ]; then
		name=$(hostname -f 2>/dev/null || hostname)
		bin/config-fast "$name"
		case $name in
		*.*) ;;
		*) say "warning: $name is not a full host name; say it: $home/bin/config-fast full.host.name" ;;
		esac
	fi
	[ -e control/defaultdelivery ] || echo ./Maildir/ >control/defaultdelivery
}

# A certificate that the host signs itself, where there is none: enough for mail that is encrypted where it can be. One that clients
# trust takes its place without more ado (INSTALL).
certificate() {
	for file in tls/*.pem; do
		[ ! -e "$file" ] || return 0
	done
	if ! command -v openssl >/dev/null; then
		say "warning: no openssl here, so no certificate was made: put one into $home/tls, see qmail-keyd(8)"
		return 0
	fi
	me=$(sed -n 1p control/me)
	made=$(mktemp -d)
	if openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/O=self-signed' \
	    -addext "subjectAltName=DNS:$me" -keyout "$made/key" -out "$made/chain" 2>/dev/null; then
		# the directory is another user's: nothing that lies there already is written through
		if [ "$one_user" ]; then set --; else set -- -o "$(uid_of qmailk)" -g "$(gid_of nofiles)"; fi
		cat "$made/key" "$made/chain" | install -m 0400 "$@" /dev/stdin tls/.self-signed
		mv -f tls/.self-signed tls/self-signed.pem
		say "tls/self-signed.pem: a certificate for $me that nobody else has signed"
	else
		say "warning: openssl made no certificate for $me"
	fi
	rm -rf "$made"
}

# Mail that every host has to take, RFC 5321 section 4.5.1 and RFC 2142, and that cron sends: to alias until root says otherwise.
aliases() {
	for box in postmaster mailer-daemon root; do
		if [ -e alias/.qmail-$box ] || [ -h alias/.qmail-$box ]; then continue; fi
		(
			enter alias
			set -C
			: >.qmail-$box
			[ "$one_user" ] || chown -h "$(uid_of alias):$(gid_of nofiles)" .qmail-$box
		)
		say "alias/.qmail-$box: its mail goes to alias/Maildir; write a forwarding address into it"
	done
}

if [ ! "$one_user" ]; then
	[ ! "$root" ] || [ -e "$root/etc/passwd" ] || fatal "$root/etc/passwd does not exist: users cannot be made" 100
	users
fi
keep_old_queue
directories
remembered_hosts
control_files
certificate
aliases
