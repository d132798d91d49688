# Every program, the modules that it is made of, the libraries that it links, and how it is linked: $(STATIC) what is started
# often or forks for every connection, because it starts faster; -pie what needs the name service, or is started once and
# then shares its libraries with the others that run.

SK := -lskarnet
# the linker warns of a function in c-ares that asks the name service; nothing here calls it
CARES := -Wl,--no-warnings -lcares
IDN := -lidn2 -lunistring
HOME_CONTROL := $L/home control/control
# whose a local part is
USER_TABLES := users/tables users/virtual users/account control/table
# what submits messages
SUBMIT := queue/client queue/runner queue/protocol $L/channel $L/replaced

# --- inject ------------------------------------------------------------------
$(eval $(call program,qmail-inject,$S/inject/qmail-inject $S/inject/sendmail $S/inject/injection $S/inject/header $S/inject/identity $L/address822 $L/message_id $L/date822 $L/sandbox $(HOME_CONTROL) $(SUBMIT),$(SK),$(STATIC)))
$(eval $(call same,sendmail,qmail-inject))
$(eval $(call program,predate,$S/inject/predate $S/inject/feed $L/home,$(SK),$(STATIC)))
$(eval $(call same,datemail,predate))
$(eval $(call program,mailsubj,$S/inject/mailsubj $S/inject/feed $L/home,$(SK),$(STATIC)))

# --- queue -------------------------------------------------------------------
$(eval $(call program,qmail-queue,$S/queue/qmail-queue $S/queue/caller $L/home $L/sandbox queue/envelope $(SUBMIT),$(SK),$(STATIC)))
$(eval $(call program,qmail-qmqpc,$S/queue/qmail-qmqpc $S/queue/caller queue/envelope queue/protocol $L/sandbox $(HOME_CONTROL),$(SK),-pie))
$(eval $(call program,qmail-qread,$S/queue/qmail-qread $S/queue/listing queue/protocol $S/send/route $L/channel $L/date822 $L/sandbox $(HOME_CONTROL),$(SK),$(STATIC)))
$(eval $(call program,qmail-qstat,$S/queue/qmail-qstat $S/queue/listing queue/protocol $L/channel $L/sandbox $L/home,$(SK),$(STATIC)))

$(eval $(call program,qmail-queued,$(addprefix $S/queue/,qmail-queued submit large flush notices writers writer survey ledger) \
	$L/become $L/home $L/channel $L/date822 $L/siphash $L/sandbox $(addprefix queue/,protocol envelope record digest info ring reader),$(SK),-pie))

# --- send --------------------------------------------------------------------
# qmail-send but its main and what shuts it in: what its unit tests link, too
SEND := $(addprefix $S/send/,keeper pass delivery worker octets bouncer \
	route relays schedule verp message places destination owner heap log bounce loop) $S/remote/smtproute $S/remote/domain_map $L/stamp \
	$L/job $L/notify $L/date822 $L/quote $L/siphash control/control $(SUBMIT) $(addprefix queue/,reader info record ring digest envelope)
$(eval $(call program,qmail-send,$S/send/qmail-send $(SEND) $L/file_limit $L/home $L/sandbox,$(SK),-pie))
$(eval $(call program,qmail-start,$S/send/qmail-start $L/become $L/home,$(SK),-pie))

# --- local -------------------------------------------------------------------
# a local delivery, which unit tests link, too
LOCAL := $(addprefix $S/local/,delivery dotqmail environment mbox program resend trace message report) $L/maildir $L/maildir_quota $L/quote $L/notify queue/envelope $(SUBMIT)
$(eval $(call program,qmail-local,$S/local/qmail-local $S/local/worker $(LOCAL) $L/job $L/home,$(SK),$(STATIC)))
$(eval $(call program,bouncesaying,$S/local/bouncesaying $S/local/condition,$(SK),$(STATIC)))
$(eval $(call program,except,$S/local/except $S/local/condition,$(SK),$(STATIC)))
$(eval $(call program,forward,$S/local/forward $S/local/copy $S/local/resend $S/local/message $S/local/report $L/notify $L/home queue/envelope $(SUBMIT),$(SK),$(STATIC)))
$(eval $(call program,condredirect,$S/local/condredirect $S/local/condition $S/local/copy $S/local/resend $S/local/message $S/local/report $L/notify $L/home queue/envelope $(SUBMIT),$(SK),$(STATIC)))
$(eval $(call program,qreceipt,$S/local/qreceipt $S/local/copy $S/local/resend $S/local/field $S/local/message $S/local/report $L/address822 $L/message_id $L/date822 $L/quote $L/notify $L/home queue/envelope $(SUBMIT),$(SK),$(STATIC)))
$(eval $(call program,preline,$S/local/preline,$(SK),$(STATIC)))
$(eval $(call program,qbiff,$S/local/qbiff $S/local/field $S/local/message,$(SK),-pie))
$(eval $(call program,maildirmake,$S/local/maildirmake $L/maildir,$(SK),$(STATIC)))
$(eval $(call program,maildir2mbox,$S/local/maildir2mbox $S/local/mbox $S/local/trace $S/local/message $L/quote,$(SK),$(STATIC)))
$(eval $(call program,maildirwatch,$S/local/maildirwatch $S/local/field $S/local/message,$(SK),$(STATIC)))
$(eval $(call program,tcp-env,$S/local/tcp-env,$(SK),-pie))
$(eval $(call program,qmail-lspawn,$S/local/qmail-lspawn $S/local/lookup $S/local/kept_getpw $(USER_TABLES) $L/spawner $L/become $L/channel $L/replaced $L/home,-lcdb $(SK),-pie))

# messages by their MIME parts
MIME := $L/mime $L/mime_words $L/mail_data

# --- remote ------------------------------------------------------------------
# where mail for a host goes
REMOTE_HOST := $L/dns $L/domain $L/localaddress $(addprefix $S/remote/,mx smtproute domain_map tcpto)
$(eval $(call program,qmail-remote,$(addprefix $S/remote/,qmail-remote worker relay dial transaction downgrade session smtp_login connection tls_client server_chain server_proof trust_anchors authorities tlspolicy tlsclientcert client_certificate dane tlsa sts sts_client sts_policy sts_record smtp_reply smtp_command report) $L/key_client $L/key_chain $L/service_socket $L/suites $L/certificate $(MIME) \
	$(REMOTE_HOST) queue/envelope $L/quote $L/job $L/channel $L/sandbox $(HOME_CONTROL),-lbearssl $(CARES) $(IDN) $(SK),$(STATIC)))
# policies of MTA-STS: what fetches them is the only program with libcurl
$(eval $(call program,qmail-mtastsd,$(addprefix $S/remote/,qmail-mtastsd sts_service sts_cache sts_policy) $L/siphash $L/service_socket $L/sandbox $L/home,$(SK),-pie))
$(eval $(call program,qmail-mtastsfetch,$(addprefix $S/remote/,qmail-mtastsfetch authorities) $L/dns $L/sandbox $(HOME_CONTROL),-lcurl $(CARES) $(SK),-pie))
$(eval $(call program,qmail-rspawn,$S/remote/qmail-rspawn $S/remote/classic $S/remote/remote_report $S/remote/tcpto $L/spawner $L/job $L/channel $L/replaced $L/home,$(SK),-pie))
$(eval $(call program,qmail-route,$S/remote/qmail-route $(REMOTE_HOST) $L/sandbox $L/home control/control,$(CARES) $(IDN) $(SK),$(STATIC)))
$(eval $(call program,qmail-tcpto,$S/remote/qmail-tcpto $S/remote/tcpto $L/sandbox $L/home,$(SK),$(STATIC)))
$(eval $(call program,qmail-tcpok,$S/remote/qmail-tcpok $S/remote/tcpto $L/home,$(SK),$(STATIC)))

# --- smtpd -------------------------------------------------------------------
# what has its clients' TLS done by somebody else
SERVER_TLS := $L/server_tls $L/tls_engine $L/service_socket
# what accepts connections
LISTEN := $L/listener $L/held_signals $L/handover $L/rules $L/stamp $L/client_limits $L/unforked $L/endpoint $L/peer control/table
$(eval $(call program,qmail-smtpd,$(addprefix $S/smtpd/,qmail-smtpd session command auth submission author completion delivery recipient recipient_checks session_log reply path parameters content \
	settings expressions policy received rcptcheck checkprogram dnsbl dnsbl_silence) $L/sasl $L/login_client $L/login_protocol $L/login_runner $L/input $(LISTEN) $(SERVER_TLS) $L/localaddress $L/address822 $L/date822 $L/message_id $L/sandbox queue/envelope $(HOME_CONTROL) $(SUBMIT),-lcdb $(SK),$(STATIC)))
$(eval $(call program,qmail-rcptd,$(addprefix $S/smtpd/,qmail-rcptd deliverable fresh_routes known slow_lookup) $S/send/route $L/replaced $L/stamp $L/service_socket \
	$S/local/dotqmail $S/local/report $(USER_TABLES) users/passwd $L/sandbox $(HOME_CONTROL),-lcdb $(SK),-pie))
$(eval $(call program,qmail-submitd,$(addprefix $S/smtpd/,qmail-submitd senders address_pattern account_limits allowance) $L/siphash $L/stamp $L/held_signals $L/service_loop $L/service_socket $L/service_users $L/sandbox $(HOME_CONTROL),$(SK),-pie))
$(eval $(call program,qmail-dnsbl,$(addprefix $S/smtpd/,qmail-dnsbl dnsbl_list dnsbl_silence) $L/dns $L/sandbox $(HOME_CONTROL),$(CARES) $(SK),$(STATIC)))
$(eval $(call program,qmail-rcptcheck,$S/smtpd/qmail-rcptcheck $S/smtpd/rcptcheck $L/service_socket $L/home,$(SK),$(STATIC)))
$(eval $(call program,qmail-listen,$S/smtpd/qmail-listen $L/become,$(SK),-pie))
# what takes messages by netstrings
TRANSFER := $(addprefix $S/smtpd/,transfer netstring hops received settings expressions) $L/input $(LISTEN) $L/date822 $L/sandbox $(HOME_CONTROL) $(SUBMIT) queue/envelope
$(eval $(call program,qmail-qmtpd,$(addprefix $S/smtpd/,qmail-qmtpd content policy recipient_checks rcptcheck checkprogram dnsbl dnsbl_silence) $L/service_socket $(TRANSFER),-lcdb $(SK),$(STATIC)))
$(eval $(call program,qmail-qmqpd,$S/smtpd/qmail-qmqpd $(TRANSFER),-lcdb $(SK),$(STATIC)))

# --- pop3d -------------------------------------------------------------------
$(eval $(call program,qmail-pop3d,$(addprefix $S/pop3d/,qmail-pop3d session command capabilities maildrop known_sizes login_delay retrieval surrogate ascii_field encoded_words top output) $(MIME) $L/maildir $L/maildir_quota $L/input $L/peer $L/siphash $L/sandbox $(HOME_CONTROL),$(SK),$(STATIC)))

# before the login: knows no password, and reads no file
$(eval $(call program,qmail-popup,$(addprefix $S/pop3d/,qmail-popup authorization capabilities output pump) $L/login_runner $L/login_client $L/login_protocol $L/sasl $(SERVER_TLS) \
	$L/input $(LISTEN) $L/become $L/sandbox $(HOME_CONTROL),-lcdb $(SK),$(STATIC)))

# --- tls ---------------------------------------------------------------------
# who holds the keys does not speak TLS, and who speaks it has no key
$(eval $(call program,qmail-keyd,$(addprefix $S/tls/,qmail-keyd keystore keypair) $L/certificate $L/service_socket $L/service_users $L/sandbox $(HOME_CONTROL),-lbearssl $(SK),-pie))
$(eval $(call program,qmail-tlsd,$(addprefix $S/tls/,qmail-tlsd tunnel server_policy) $L/held_signals $L/key_client $L/key_chain $L/suites $L/service_socket $L/service_users $L/sandbox $L/home,-lbearssl $(SK),$(STATIC)))

# --- users -------------------------------------------------------------------
# what makes the tables of virtual accounts
VIRTUAL_TABLES := users/virtual_tables users/virtual users/account users/password control/table
$(eval $(call program,qmail-getpw,$S/users/qmail-getpw users/passwd,$(SK),-pie))
$(eval $(call program,qmail-newu,$S/users/qmail-newu users/assign users/account control/table $L/home,-lcdb $(SK),$(STATIC)))
$(eval $(call program,qmail-newaccounts,$S/users/qmail-newaccounts $(VIRTUAL_TABLES) $L/home,-lcdb -lcrypt $(SK),$(STATIC)))
$(eval $(call program,qmail-newmrh,$S/users/qmail-newmrh control/table $(HOME_CONTROL),-lcdb $(SK),$(STATIC)))
$(eval $(call program,qmail-account,$(addprefix $S/users/,qmail-account accountlist account_home prompt) $(VIRTUAL_TABLES) $S/send/route $L/become $L/maildir $L/maildir_quota $(HOME_CONTROL),-lcdb -lcrypt $(SK),-pie))
# what a login is handed to: it becomes the user
$(eval $(call program,checkpassword-accounts,$S/users/checkpassword-accounts $S/users/login users/password users/virtual users/account control/table $L/become $L/home,-lcdb -lcrypt $(SK),-pie))
$(eval $(call program,checkpassword-system,$S/users/checkpassword-system $S/users/login $S/users/shadow_state users/passwd users/password $L/become,-lcrypt $(SK),-pie))
$(eval $(call program,checkpassword-authd,$S/users/checkpassword-authd $S/users/login $L/login_client $L/login_protocol $L/service_socket $L/become $L/home,$(SK),-pie))
# who checks logins for what reads the network: it looks at no password, the checkpassword programs do
$(eval $(call program,qmail-authd,$(addprefix $S/users/,qmail-authd login_chain login_throttle) $L/file_limit $L/login_protocol $L/siphash $L/held_signals $L/service_loop $L/service_socket $L/service_users $L/home,$(SK),$(STATIC)))
$(eval $(call program,qmail-loggedin,$S/users/qmail-loggedin,$(SK),$(STATIC)))
$(eval $(call program,qmail-pw2u,$S/users/qmail-pw2u $(HOME_CONTROL),$(SK),$(STATIC)))

# --- admin -------------------------------------------------------------------
$(eval $(call program,splogger,$S/admin/splogger $L/sandbox,$(SK),$(STATIC)))
$(eval $(call program,qmail-showctl,$S/admin/qmail-showctl $(HOME_CONTROL) control/files $L/sandbox,$(SK),-pie))
$(eval $(call script,config,$S/admin/config.sh))
$(eval $(call script,config-fast,$S/admin/config-fast.sh))
$(eval $(call script,qmail-setup,$S/admin/qmail-setup.sh))
$(eval $(call script,qmailctl,$S/admin/qmailctl.sh))
$(eval $(call script,svstat,$S/admin/svstat.sh))

