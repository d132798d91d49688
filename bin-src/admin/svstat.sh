#!/bin/sh
# svstat DIR...: daemontools' svstat for the service directories of s6.
[ $# -gt 0 ] || { echo 'svstat: fatal: usage: svstat dir ...' >&2; exit 100; }
for dir; do
	if ! s6-svok "$dir" 2>/dev/null; then
		echo "$dir: supervise not running"
		continue
	fi
	# shellcheck disable=SC2046 # words
	set -- $(s6-svstat -o up,wantedup,normallyup,paused,pid,updownfor "$dir" 2>/dev/null)
	[ $# -eq 6 ] || { echo "$dir: unable to read its status"; continue; }
	line="$dir:"
	if [ "$1" = true ]; then
		line="$line up (pid $5) $6 seconds"
		[ "$3" = true ] || line="$line, normally down"
		[ "$4" = false ] || line="$line, paused"
		[ "$2" = true ] || line="$line, want down"
	else
		line="$line down $6 seconds"
		[ "$3" = false ] || line="$line, normally up"
		[ "$2" = false ] || line="$line, want up"
	fi
	echo "$line"
done
