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
me=$(id -u)
root=${DESTDIR-}
root=${root%/}
home=${PWD#"$root"}	# as it will be called on the real server

# --- users and groups ------------------------------------------------------
# By /etc/passwd and /etc/group, where the programs look for them; with $DESTDIR its own, which the tools of this host write.

# numbers_of FILE: " NAME=NUMBER ..." of the users or groups here that concern a mail server; read once, for each look costs a process
numbers_of() { printf ' '; awk -F: '$1 ~ /^(root|alias|nofiles|qmail[a-z]?)$/ { printf "%s=%s ", $1, $3 }' "$root/etc/$1"; }

# number NAME NUMBERS: the first of that name, or nothing
number() {
	case $2 in
	*" $1="*) ;;
	*) return 0 ;;
	esac
	number=${2#*" $1="}
	echo "${number%% *}"
}

uid_of() { number "$1" "$uids"; }
gid_of() { number "$1" "$gids"; }

group() {
	[ -z "$(gid_of "$1")" ] || return 0
	groupadd ${root:+--prefix "$root"} --system "$1"
	gids=$(numbers_of group)
	say "group $1"
}

# user NAME GROUP HOME
user() {
	[ -z "$(uid_of "$1")" ] || return 0
	useradd ${root:+--prefix "$root"} --system --no-create-home --no-user-group --gid "$(gid_of "$2")" \
	    --home-dir "$3" --shell /usr/sbin/nologin --comment tambo "$1"
	uids=$(numbers_of passwd)
	say "user $1"
}

users() {
	[ "$me" = 0 ] || fatal 'only root can make users; for a private server of one user: qmail-setup -1' 100
	uids=$(numbers_of passwd)
	gids=$(numbers_of group)
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

rights=''	# what set_rights is to do, a line a call of directories_in, the last first: parent, mode, owner, names, a tab between them

# directories_in PARENT MODE USER GROUP NAME...: made if absent, in a parent that is there; set_rights sets mode and owner either way
directories_in() {
	parent=$1 mode=$2 user=$3 group=$4
	shift 4
	owner='' absent=''
	[ "$one_user" ] || owner=$(uid_of "$user"):$(gid_of "$group")
	for directory; do
		[ -d "$parent/$directory" ] || absent="$absent $directory"
	done
	# shellcheck disable=SC2086 # one word a name
	[ ! "$absent" ] || (enter "$parent" && mkdir -m "$mode" $absent)
	rights="$parent	$mode	${owner:--}	$*
$rights"
}

# give OWNER MODE NAME...: OWNER - is whoever has it
give() {
	owner=$1 mode=$2
	shift 2
	[ "$owner" = - ] || chown "$owner" "$@"
	chmod "$mode" "$@"
}

# rights_in PARENT MODE OWNER NAME...: in one go where nobody else can put anything into the place of what was looked at. In a subshell: from
# the look to the end it stays in one directory, which may be moved meanwhile.
rights_in() (
	parent=$1 mode=$2 owner=$3
	shift 3
	enter "$parent"
	found=$(LC_ALL=C stat -c '%n %a %u:%g %F' . "$@") || exit 111
	safe='' together='' alone=''
	while read -r entry is_mode is_owner kind; do
		if [ "$entry" = . ]; then
			case $is_mode in *[2367]? | *[2367]) ;; *) [ "${is_owner%:*}" != "$me" ] || safe=yes ;; esac
			continue
		fi
		[ "$owner" != - ] || is_owner=-
		case "$kind 0$is_mode $is_owner" in
		"directory $mode $owner") ;;
		'directory '*) if [ "$safe" ]; then together="$together $entry"; else alone="$alone $entry"; fi ;;
		*) alone="$alone $entry" ;;
		esac
	done <<-END
	$found
	END
	# shellcheck disable=SC2086 # one word a name
	[ ! "$together" ] || give "$owner" "$mode" $together
	for directory in $alone; do
		(cd -P "$top" && enter "$parent/$directory" && give "$owner" "$mode" .)
	done
)

# What was made last first: so long as a directory is root's, nobody has a hand in what is in it.
set_rights() {
	while IFS='	' read -r parent mode owner names; do
		# shellcheck disable=SC2086 # one word a name
		[ ! "$parent" ] || rights_in "$parent" "$mode" "$owner" $names
	done <<-END
	$rights
	END
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

directories() {
	directories_in . 0755 root root bin control users libexec service
	directories_in . 0711 qmailq qmails run
	directories_in run 0711 qmailp nofiles qmail-rcptd
	directories_in run 0711 qmailt nofiles qmail-tlsd
	directories_in run 0711 qmailk nofiles qmail-keyd
	directories_in run 0711 qmailm nofiles qmail-mtastsd
	directories_in run 0711 root root qmail-authd
	directories_in run 0711 qmailu nofiles qmail-submitd
	directories_in . 0700 qmailk nofiles tls
	directories_in tls 0700 qmailk nofiles client
	directories_in . 0750 qmailq qmails queue
	directories_in queue 0750 qmailq qmails journal mess info new damaged
	for folder in queue/mess queue/info; do
		# shellcheck disable=SC2046 # one word a number
		directories_in $folder 0750 qmailq qmails $(seq 0 $((split - 1)))
	done
	directories_in . 0755 alias nofiles alias
	directories_in alias 0700 alias nofiles Maildir
	directories_in alias/Maildir 0700 alias nofiles new cur tmp
	if [ "$one_user" ]; then
		directories_in . 0755 root root log
	elif [ ! -e log ] && [ ! -h log ]; then
		mkdir -p "$root/var/log"
		directories_in "$root/var/log" 0755 root root qmail
		ln -s /var/log/qmail log
	fi
	logs=log
	[ ! -h log ] || logs=$root$(readlink log)
	directories_in "$logs" 0700 qmaill nofiles qmail-queued qmail-rcptd qmail-keyd qmail-tlsd qmail-authd qmail-submitd qmail-mtastsd qmail-send \
	    qmail-smtpd qmail-qmtpd qmail-qmqpd qmail-submission qmail-submissions qmail-popup qmail-pop3s
	set_rights
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
