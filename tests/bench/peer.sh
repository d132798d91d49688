#!/bin/bash
# tambo as a peer of ../shared/bench (its README says what a peer is): tests/bench/network puts a link to this file among
# the peers. $TAMBO_BUILD is the directory that the programs were built in, $TAMBO_SOURCE the source tree.
# The server runs as on a real host: its own users, s6, its logs; only the throttles are set to what the driver wants.
# With $TAMBO_POP3 there is POP3 on $B_POP, and with TLS two ports above, for which the driver puts the key into the store; logins are
# checked by the harness's checkpassword program, which compares a password that it knows.
# shellcheck source=/dev/null
. "$(dirname "$0")/../lib/common.sh"
H=/store/tambo
PACKAGES=(s6 libskarnet2.13 libcdb1 libbearssl0 openssl)
v_role() { echo "mta${TAMBO_POP3:+ pop}"; }
v_install() {
  base_root
  # a run leaves the root without a resolver
  in_root dpkg -s "${PACKAGES[@]}" >/dev/null 2>&1 || { rm -f "$B_ROOT/etc/nsswitch.conf"; pkgs "${PACKAGES[@]}"; }
  rm -rf "$B_ROOT/opt/tambo"
  mkdir -p "$B_ROOT/opt"
  (cd "$TAMBO_SOURCE" && admin/install "$TAMBO_BUILD" "$B_ROOT/opt/tambo")
  in_root /opt/tambo/bin/qmail-setup mx.bench.test
  cc -O2 -w -static -o "$B_ROOT/opt/tambo/bin/benchcheckpw" "$B_HERE/lib/benchcheckpw.c" 2>/dev/null
}
pop3() {
  rm -f qmail-popup/down qmail-pop3s/down
  echo "127.0.0.1 $B_POP" >qmail-popup/listen
  echo "127.0.0.1 $((B_POP + 2))" >qmail-pop3s/listen
  mkdir -p qmail-popup/env
  echo 0 >qmail-popup/env/FORCETLS
  sed -i 's,bin/checkpassword-accounts -s,bin/benchcheckpw,' qmail-authd/run
  rm -f ../tls/*.pem
  [ ! -f "$B_STORE/tls/key.pem" ] || install -o "$(in_root id -u qmailk)" -m 600 "$B_STORE/tls/key.pem" ../tls/key.pem
}
v_start() {
  mkdir -p "$B_STORE/log"
  cp -a "$B_ROOT/opt/tambo" "$B_STORE/tambo"
  local h=$B_STORE/tambo n
  rm -f "$h/log"
  mkdir "$h/log"
  for n in "$h"/service/*/log; do
    n=${n%/log}
    n=$h/log/${n##*/}
    mkdir "$n"
    chown "$(in_root id -u qmaill)" "$n"
  done
  cd "$h/control" || exit
  echo bench.test >locals
  echo bench.test >rcpthosts
  echo ":127.0.0.1:$B_RELAY" >smtproutes
  echo "$B_MAXOUT" | tee concurrencylocal concurrencyremote >concurrencydestination
  echo "$((B_MAXIN > 100 ? B_MAXIN : 100))" | tee concurrencyincoming concurrencyaddress >concurrencyprefix
  cd "$h/service" || exit
  rm -rf qmail-qmtpd qmail-qmqpd qmail-smtpd/down
  echo "127.0.0.1 $B_PORT" >qmail-smtpd/listen
  mkdir -p qmail-smtpd/env
  echo >qmail-smtpd/env/RELAYCLIENT
  [ -z "${TAMBO_POP3:-}" ] || pop3
  for n in "$B_STORE"/home/u*; do echo ./Maildir/ >"$n/.qmail-default"; done
  chown -R --reference="$B_STORE/home" "$B_STORE"/home/u*/.qmail-default
  spawn "$B_STORE/log/svscan" chroot "$B_ROOT" s6-svscan $H/service
}
# the supervisors end when their services have, so that nothing of the queue is lost
v_stop() { in_root s6-svscanctl -t $H/service && sleep 1; }
v_sendmail() { echo "$H/bin/sendmail -t"; }
v_queue() { in_root $H/bin/qmail-qstat | sed -n 's/^messages in queue: //p'; }
v_subaddr() { echo -; }
v_footprint() { (cd "$B_ROOT" && find ./opt/tambo -type f | sed 's/^\.//'); }
v_version() { (cd "$TAMBO_SOURCE" && git rev-parse --short HEAD); }
run_verb "$@"
