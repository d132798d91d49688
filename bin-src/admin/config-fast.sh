#!/bin/sh
# config-fast NAME: writes the control files of a server whose host name is NAME; see config-fast(8).
set -eu
unset CDPATH	# a cd to bin/.. would look for it elsewhere
fatal() { echo "config-fast: fatal: $1" >&2; exit "${2-100}"; }

[ $# -eq 1 ] || fatal 'usage: config-fast full.host.name'
self=$0
[ ! -h "$self" ] || self=$(readlink -f "$self")
cd -P "$(dirname "$self")/.." || exit 111
[ -d control ] || fatal "$PWD/control does not exist" 111
name=$(printf %s "$1" | tr '[:upper:]' '[:lower:]')
case $name in
''|*[!a-z0-9.-]*|.*|*.|*..*|-*) fatal "$1 is not a host name" ;;
esac
umask 022

# the domain that the host is in: mx.example.org is in example.org; example.org, and what has no dot, is one itself
case $name in
*.*.*) domain=${name#*.} ;;
*) domain=$name ;;
esac
# a name such as mx+@ is a host of the organization: the last two labels
plus=$(printf %s "$name" | awk -F. '{ print (NF > 2 ? $(NF-1) "." $NF : $0) }')

put() {
	printf '%s\n' "$2" >"control/$1.new"
	mv -f "control/$1.new" "control/$1"
	echo "config-fast: control/$1 is $2"
}

# the list file gets the name unless it has it
add() {
	if [ -e "control/$1" ]; then
		grep -Fixq -- "$2" "control/$1" && return
		cat "control/$1" >"control/$1.new"
		# a last line without an end must not run into ours
		[ ! -s "control/$1" ] || [ "$(tail -c 1 "control/$1" | wc -l)" = 1 ] || echo >>"control/$1.new"
	else
		: >"control/$1.new"
	fi
	printf '%s\n' "$2" >>"control/$1.new"
	mv -f "control/$1.new" "control/$1"
	echo "config-fast: control/$1 has $2"
}

put me "$name"
put defaultdomain "$domain"
put plusdomain "$plus"
add locals "$name"
add rcpthosts "$name"
