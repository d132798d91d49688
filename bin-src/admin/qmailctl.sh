#!/bin/sh
# qmailctl COMMAND: runs a server day by day; see qmailctl(8).
set -u
unset CDPATH	# a cd to bin/.. would look for it elsewhere
self=$0
[ ! -h "$self" ] || self=$(readlink -f "$self")
cd -P "$(dirname "$self")/.." || exit 111
PATH=$PATH:/usr/sbin:/sbin
# in the order in which they start; they stop in the other
services='' stopping='' wanted='' restarting=''
for dir in service/*/; do
	dir=${dir%/}
	services="$services $dir"
	stopping="$dir $stopping"
	# one that is down by default is started only by its own name: s6-svc -u service/NAME
	if [ ! -e "$dir/down" ] || [ "$(s6-svstat -o up "$dir" 2>/dev/null)" = true ]; then
		restarting="$dir $restarting"
	fi
	[ -e "$dir/down" ] || wanted="$wanted $dir"
done

# root waits for the events of another user's supervisors (a private server) as that user: its own FIFOs they cannot open
as=
owner=$(stat -c %u:%g service)
if [ "$(id -u)" = 0 ] && [ "${owner%%:*}" != 0 ]; then
	as="s6-setuidgid $owner"
fi

usage() {
	cat <<'HELP'
qmailctl start     start every service, but those that are down by default
qmailctl stop      stop every service: deliveries that run are finished, no new mail is accepted
qmailctl restart   stop, and start again
qmailctl stat      what runs, since when, and how many messages wait
qmailctl doqueue   try what waits now; of a host that cannot be reached one message first (also: flush)
qmailctl reload    control/locals, virtualdomains, concurrencylocal, -remote, -destination, and the keys in tls/ are read again
qmailctl queue     how many messages wait, and which
qmailctl cdb       compile users/assign, users/accounts, control/morercpthosts, and the rules control/tcp.smtp, .qmtp, .qmqp, .pop3, .submission
qmailctl pause     stop deliveries; mail is accepted on
qmailctl cont      go on with deliveries
qmailctl help      this text
HELP
}

supervised() {
	s6-svok service/qmail-send 2>/dev/null || {
		echo "qmailctl: no s6-svscan runs on $PWD/service: start it first" >&2
		exit 111
	}
}

down() { $as s6-svc -wd -T 60000 -d "$1"; }
up() { $as s6-svc -wU -T 60000 -u "$1"; }
# in two steps: s6-svc -wR misses a service that is back before it looks. Whatever comes of the first, it is to be up
again() {
	$as s6-svc -wD -T 60000 -d "$1"
	stopped=$?
	up "$1" && return $stopped
}

# each WORD FUNCTION SERVICE...: does it to every one of them that has a supervisor; one that is new may have none yet
each() {
	word=$1 act=$2 status=0
	shift 2
	for s; do
		s6-svok "$s" 2>/dev/null || {
			echo "qmailctl: ${s##*/} has no supervisor, and was left out: s6-svscanctl -a on the scan directory starts one" >&2
			status=111
			continue
		}
		echo "qmailctl: $word ${s##*/}"
		$act "$s" || { echo "qmailctl: ${s##*/} did not $word within a minute" >&2; exit 111; }
	done
	exit $status
}

# shellcheck disable=SC2086 # one word a service
case ${1-} in
start) supervised; each start up $wanted ;;
stop) supervised; each stop down $stopping ;;
restart) supervised; each restart again $restarting ;;
stat|status)
	for s in $services; do
		bin/svstat "$s" "$s/log"
	done
	bin/qmail-qstat
	;;
doqueue|flush|alrm) supervised; $as s6-svc -a service/qmail-send ;;
reload|hup) supervised; for s in qmail-rcptd qmail-keyd qmail-send; do $as s6-svc -h service/$s || exit; done ;;
queue) bin/qmail-qstat && bin/qmail-qread ;;
cdb)
	status=0
	umask 022	# who reads the tables is not who makes them
	rules='control/tcp.smtp control/tcp.qmtp control/tcp.qmqp control/tcp.pop3 control/tcp.submission'
	# qmail's run files, which may have stayed, have them in /etc; no private server's business
	[ "${owner%%:*}" != 0 ] || for table in /etc/tcp.*.cdb; do
		[ ! -w "$table" ] || rules="$rules ${table%.cdb}"
	done
	[ ! -e users/assign ] || bin/qmail-newu || status=111
	[ ! -e users/accounts ] || bin/qmail-newaccounts || status=111
	[ ! -e control/morercpthosts ] || bin/qmail-newmrh || status=111
	for file in $rules; do
		# a name of its own: tcprules takes no lock, and a second one would cut off what the first is about to rename
		[ ! -e "$file" ] || tcprules "$file.cdb" "$file.tmp.$$" <"$file" || { rm -f "$file.tmp.$$"; status=111; }
	done
	exit $status
	;;
pause) supervised; $as s6-svc -p service/qmail-send ;;
cont) supervised; $as s6-svc -c service/qmail-send ;;
help) usage ;;
*) usage >&2; exit 100 ;;
esac
