#!/bin/bash
# Gives a peer of ../shared/bench that runs a port with TLS: POP3 in Dovecot, SMTP in Postfix, both as their packages have it. The
# key is in the store. tests/bench/pop3 runs it, with the environment of a peer's verbs and the port in $B_POPS.
# shellcheck source=/dev/null
. "$BENCH/lib/common.sh"
case $B_NAME in
dovecot)
  cat >>"$B_ROOT/etc/dovecot/dovecot.conf" <<X
ssl = yes
ssl_cert = </store/tls/key.pem
ssl_key = </store/tls/key.pem
service pop3-login {
  inet_listener pop3s {
    port = $B_POPS
    ssl = yes
  }
}
X
  in_root doveadm reload ;;
postfix)
  in_root postconf -e smtpd_tls_chain_files=/store/tls/key.pem
  in_root postconf -M "127.0.0.1:$B_POPS/inet=127.0.0.1:$B_POPS inet n - n - - smtpd"
  in_root postconf -P "127.0.0.1:$B_POPS/inet/smtpd_tls_wrappermode=yes"
  in_root postfix reload ;;
*)
  exit 64 ;;
esac
for _ in $(seq 100); do
  if openssl s_client -connect "127.0.0.1:$B_POPS" </dev/null >/dev/null 2>&1; then exit 0; fi
  sleep 0.1
done
exit 1
