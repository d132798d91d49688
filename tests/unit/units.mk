# Unit tests: one cmocka program a module, built with ASan and UBSan in build-unit/, named after the module.
# $(call unit,NAME,modules under test and what they need,libraries): the test itself is tests/unit/NAME.c

UNIT_BUILD ?= build-unit
UNIT_FLAGS := -std=gnu17 -O1 -g $(WARN) -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
UNITS :=
# $(call wrap,FUNCTIONS): the modules call __wrap_FUNCTION of the test instead
wrap = $(foreach f,$(1),-Xlinker --wrap=$(f))

define unit
UNITS += $(1)
$(UNIT_BUILD)/bin/$(1): $$(patsubst %,$(UNIT_BUILD)/%.o,tests/unit/$(1) $(2))
	@mkdir -p $$(UNIT_BUILD)/bin
	$$(say) $$(CC) $$(UNIT_FLAGS) -o $$@ $$^ $(3) -lskarnet -lcmocka
endef

$(eval $(call unit,control,control/control))
$(eval $(call unit,control_files,control/files))
$(eval $(call unit,channel,$L/channel))
$(eval $(call unit,job,$L/job $L/channel))
$(eval $(call unit,handover,$L/handover))
$(eval $(call unit,home,tests/unit/directory tests/unit/process $L/home))
$(UNIT_BUILD)/$L/home.o: CPPFLAGS += -UQMAIL_HOME -DQMAIL_HOME='"built-for"'
$(eval $(call unit,stamp,tests/unit/directory $L/stamp))
$(eval $(call unit,date822,$L/date822))
$(eval $(call unit,envelope,queue/envelope))
$(eval $(call unit,ring,queue/ring queue/digest))
$(eval $(call unit,info,queue/info queue/digest queue/envelope queue/record queue/protocol))
$(eval $(call unit,reader,tests/unit/directory tests/unit/stored queue/reader queue/ring queue/digest queue/info queue/envelope queue/record queue/protocol))
$(eval $(call unit,runner,tests/unit/directory tests/unit/process queue/runner))
$(eval $(call unit,client,tests/unit/directory tests/unit/process $(SUBMIT)))
$(eval $(call unit,ledger,$S/queue/ledger))
# the keeper's parts work on one state: each unit has all of them, and one keeper without its program
KEEPER := tests/unit/queue_keeper tests/unit/directory tests/unit/process $(addprefix $S/queue/,submit large flush notices writers writer survey ledger) \
	$L/channel $L/date822 $(addprefix queue/,protocol envelope record digest info ring reader)
KEEPER_WRAP := $(call wrap,getsockopt fdatasync fsync)
$(eval $(call unit,submit,$(KEEPER),$(KEEPER_WRAP)))
$(eval $(call unit,writers,$(KEEPER),$(KEEPER_WRAP) $(call wrap,rename unlink)))
$(eval $(call unit,notices,$(KEEPER),$(KEEPER_WRAP)))
$(eval $(call unit,survey,$(KEEPER),$(KEEPER_WRAP)))
$(eval $(call unit,large,$(KEEPER),$(KEEPER_WRAP)))
$(eval $(call unit,flush,$(KEEPER),$(KEEPER_WRAP) $(call wrap,pwrite)))
$(eval $(call unit,caller,tests/unit/directory tests/unit/process $S/queue/caller))
$(eval $(call unit,listing,tests/unit/directory tests/unit/process $S/queue/listing queue/protocol $L/channel))
$(eval $(call unit,table,control/table,-lcdb))
$(eval $(call unit,account,users/account users/assign control/table,-lcdb))
$(eval $(call unit,virtual,tests/unit/directory users/virtual users/account control/table,-lcdb))
$(eval $(call unit,virtual_tables,tests/unit/directory $(VIRTUAL_TABLES) users/tables,-lcdb -lcrypt))
$(eval $(call unit,password,users/password,-lcrypt))
$(eval $(call unit,accountlist,tests/unit/directory $S/users/accountlist $(VIRTUAL_TABLES),-lcdb -lcrypt))
$(eval $(call unit,account_home,tests/unit/directory $S/users/account_home $L/become $L/maildir))
$(eval $(call unit,prompt,$S/users/prompt))
$(eval $(call unit,login,$S/users/login $L/become))
$(eval $(call unit,shadow_state,$S/users/shadow_state))
$(eval $(call unit,passwd,users/passwd))
$(eval $(call unit,client_limits,$L/client_limits $L/unforked))
$(eval $(call unit,unforked,$L/unforked))
$(eval $(call unit,stralloc_set,))
$(eval $(call unit,timed_write,))
$(eval $(call unit,rules,$L/rules $L/stamp control/table,-lcdb))
$(eval $(call unit,peer,$L/peer))
$(eval $(call unit,listener,tests/unit/directory $(LISTEN) control/control,-lcdb))
$(eval $(call unit,endpoint,$L/endpoint))
$(eval $(call unit,lookup,$S/local/lookup $S/local/kept_getpw $(USER_TABLES) $L/spawner $L/become $L/channel,-lcdb))
$(eval $(call unit,remote_report,$S/remote/remote_report))
$(eval $(call unit,smtp_reply,$S/remote/smtp_reply))
# a connection, with TLS or without
REMOTE_CONNECTION := $(addprefix $S/remote/,connection tls_client client_certificate server_chain smtp_reply) $L/key_client $L/key_chain $L/service_socket $L/suites
$(eval $(call unit,connection,$(REMOTE_CONNECTION),-lbearssl))
$(eval $(call unit,mail_data,$L/mail_data))
$(eval $(call unit,report,$S/remote/report $S/remote/remote_report))
$(eval $(call unit,smtp_command,$S/remote/smtp_command $L/domain $L/quote queue/envelope,$(IDN)))
# sessions and what goes over them
REMOTE_SESSION := $S/remote/session $S/remote/smtp_login $(REMOTE_CONNECTION)
REMOTE_TRANSACTION := $(REMOTE_SESSION) $(addprefix $S/remote/,transaction smtp_command report) $L/mail_data $L/domain $L/quote queue/envelope
$(eval $(call unit,remote_session,tests/unit/server $(REMOTE_SESSION),-lbearssl))
$(eval $(call unit,transaction,tests/unit/server $(REMOTE_TRANSACTION),-lbearssl $(IDN)))
$(eval $(call unit,dial,tests/unit/directory tests/unit/process tests/unit/server $S/remote/dial $S/remote/smtproute $S/remote/domain_map $L/localaddress control/control $L/domain $(addprefix $S/remote/,server_proof trust_anchors authorities tlspolicy tlsclientcert sts sts_policy sts_record) $L/certificate $(REMOTE_SESSION),-lbearssl $(IDN)))
$(eval $(call unit,sts_policy,$S/remote/sts_policy))
$(eval $(call unit,sts_record,$S/remote/sts_record))
$(eval $(call unit,sts_cache,tests/unit/directory $S/remote/sts_cache $S/remote/sts_policy,$(call wrap,fsync)))
$(eval $(call unit,sts_service,tests/unit/directory tests/unit/process $S/remote/sts_service $S/remote/sts_cache $S/remote/sts_policy $L/siphash $L/service_socket,$(call wrap,clock_gettime time poll)))
$(eval $(call unit,relay,tests/unit/server $S/remote/relay $(REMOTE_TRANSACTION),-lbearssl $(IDN)))
$(eval $(call unit,remote_worker,tests/unit/unit_worker $S/remote/worker $S/remote/relay $(REMOTE_TRANSACTION) $L/job $L/channel,-lbearssl $(IDN)))
$(eval $(call unit,server_chain,tests/unit/der $S/remote/server_chain,-lbearssl))
$(eval $(call unit,tlsa,tests/unit/der $S/remote/tlsa $L/certificate,-lbearssl))
$(eval $(call unit,dane,tests/unit/der $(addprefix $S/remote/,dane tlsa server_proof trust_anchors authorities server_chain) $L/certificate control/control,-lbearssl))
$(eval $(call unit,tlspolicy,tests/unit/directory $S/remote/tlspolicy $S/remote/domain_map $L/domain control/control,$(IDN)))
$(eval $(call unit,client_certificate,$S/remote/client_certificate $L/key_client $L/key_chain $L/service_socket,-lbearssl))
$(eval $(call unit,tlsclientcert,tests/unit/directory $S/remote/tlsclientcert $S/remote/domain_map $L/domain control/control,$(IDN)))
$(eval $(call unit,smtp_login,$S/remote/smtp_login))
$(eval $(call unit,classic,tests/unit/directory tests/unit/unit_worker $S/remote/classic $S/remote/remote_report $L/spawner $L/job $L/channel))
$(eval $(call unit,dns,control/control,-lcares))
$(eval $(call unit,smtproute,tests/unit/directory $S/remote/smtproute $S/remote/domain_map $L/domain control/control,-lidn2 -lunistring))
$(eval $(call unit,localaddress,tests/unit/directory $L/localaddress control/control))
$(eval $(call unit,tcpto,$S/remote/tcpto))
$(eval $(call unit,mx,$S/remote/mx $L/localaddress $L/domain control/control,-lidn2 -lunistring))
$(eval $(call unit,domain,$L/domain,-lidn2 -lunistring))

$(eval $(call unit,sandbox,$L/sandbox))
# without ASan, which needs system calls of its own, and with which the module leaves the filter out
$(UNIT_BUILD)/$L/sandbox.o $(UNIT_BUILD)/tests/unit/sandbox.o: UNIT_FLAGS += -fno-sanitize=address
$(UNIT_BUILD)/$L/sandbox.o: $(BUILD)/generated/sandbox-filters.h
$(UNIT_BUILD)/$L/sandbox.o: CPPFLAGS += -I$(BUILD)/generated
$(eval $(call unit,address822,$L/address822))
$(eval $(call unit,header,$S/inject/header))
$(eval $(call unit,identity,tests/unit/directory $S/inject/identity $L/address822 control/control))
$(eval $(call unit,feed,tests/unit/directory tests/unit/process $S/inject/feed))
$(eval $(call unit,injection,tests/unit/directory tests/unit/process $S/inject/injection $S/inject/header $S/inject/identity $L/address822 $L/message_id $L/date822 control/control $(SUBMIT)))
$(eval $(call unit,message_id,$L/message_id))
$(eval $(call unit,trace,$S/local/trace $L/quote))
$(eval $(call unit,environment,$S/local/environment))
$(eval $(call unit,mbox,$S/local/mbox))
$(eval $(call unit,maildir,$L/maildir))
$(eval $(call unit,maildrop,tests/unit/directory $S/pop3d/maildrop $S/pop3d/known_sizes $L/maildir $L/maildir_quota))
$(eval $(call unit,known_sizes,tests/unit/directory $S/pop3d/known_sizes))
$(eval $(call unit,top,tests/unit/directory $S/pop3d/top))
$(eval $(call unit,output,tests/unit/directory $S/pop3d/output $L/mail_data))
$(eval $(call unit,login_delay,tests/unit/directory $S/pop3d/login_delay))
$(eval $(call unit,pop3_session,tests/unit/directory $S/pop3d/session $S/pop3d/command $S/pop3d/capabilities $S/pop3d/maildrop $S/pop3d/known_sizes $S/pop3d/output $S/pop3d/top $L/maildir $L/maildir_quota $L/mail_data $L/input $L/peer control/control))
$(eval $(call unit,maildir_quota,tests/unit/directory $L/maildir_quota $L/maildir))
$(eval $(call unit,dotqmail,$S/local/dotqmail $S/local/report))
$(eval $(call unit,field,$S/local/field $S/local/message))
$(eval $(call unit,condition,tests/unit/directory $S/local/condition,$(call wrap,fork waitpid)))
$(eval $(call unit,program,tests/unit/directory $S/local/program $S/local/report,$(call wrap,fork syscall)))
$(eval $(call unit,resend,tests/unit/directory tests/unit/submitted $S/local/resend $S/local/copy $S/local/message $S/local/report $L/notify queue/envelope $(SUBMIT)))
$(eval $(call unit,local_delivery,tests/unit/directory $(LOCAL),$(call wrap,$(addprefix maildir_,create write flush publish sync) mbox_flush)))
$(eval $(call unit,local_worker,tests/unit/directory $S/local/worker $(LOCAL) $L/job,$(call wrap,clock_gettime poll maildir_sync)))
$(eval $(call unit,schedule,$S/send/schedule))
$(eval $(call unit,verp,$S/send/verp))
$(eval $(call unit,route,$S/send/route control/control))
$(eval $(call unit,relays,tests/unit/directory $S/send/relays $S/remote/smtproute $S/remote/domain_map $L/stamp control/control))
$(eval $(call unit,log,$S/send/log))
$(eval $(call unit,loop,$S/send/loop,$(call wrap,epoll_ctl)))
$(eval $(call unit,heap,$S/send/heap))
$(eval $(call unit,destination,$S/send/destination $S/send/heap $S/send/message $S/send/places))
$(eval $(call unit,owner,$S/send/owner $S/send/message $S/send/places))
$(eval $(call unit,send_message,$S/send/message $S/send/places))
# parts of qmail-send that are tested with all the others; the test plays the processes that it talks to
SENDING := tests/unit/sending tests/unit/stored tests/unit/directory $(SEND)
$(eval $(call unit,send_worker,$(SENDING)))
$(eval $(call unit,octets,$(SENDING)))
$(eval $(call unit,pass,$(SENDING)))
$(eval $(call unit,send_delivery,$(SENDING)))
$(eval $(call unit,bouncer,tests/unit/submitted $(SENDING),$(call wrap,pipe2 fork)))
$(eval $(call unit,keeper,$(SENDING),$(call wrap,channel_put)))
$(eval $(call unit,notify,$L/notify queue/envelope))
$(eval $(call unit,bounce,$S/send/bounce queue/envelope $S/send/verp $L/quote $L/date822 control/control))
$(eval $(call unit,path,$S/smtpd/path))
$(eval $(call unit,parameters,$S/smtpd/parameters $S/smtpd/path))
$(eval $(call unit,content,$S/smtpd/content))
$(eval $(call unit,input,$L/input))
$(eval $(call unit,reply,$S/smtpd/reply))
$(eval $(call unit,rcptcheck,tests/unit/directory $S/smtpd/rcptcheck $L/service_socket))
$(eval $(call unit,netstring,$S/smtpd/netstring $L/input))
$(eval $(call unit,hops,$S/smtpd/hops))
$(eval $(call unit,received,$S/smtpd/received $L/date822))
$(eval $(call unit,expressions,$S/smtpd/expressions))
$(eval $(call unit,policy,$S/smtpd/policy $S/smtpd/expressions control/control control/table,-lcdb))
$(eval $(call unit,deliverable,$S/smtpd/deliverable $S/smtpd/fresh_routes $L/stamp $S/send/route $S/local/dotqmail $S/local/report $(USER_TABLES) users/passwd control/control,-lcdb))
$(eval $(call unit,completion,$S/smtpd/completion $L/message_id $L/date822))
$(eval $(call unit,allowance,$S/smtpd/allowance $L/siphash))
$(eval $(call unit,senders,tests/unit/directory $S/smtpd/senders control/control))
$(eval $(call unit,dnsbl,$S/smtpd/dnsbl_list))
$(eval $(call unit,known,$S/smtpd/known))
$(eval $(call unit,slow_lookup,tests/unit/directory $S/smtpd/slow_lookup users/passwd))
$(eval $(call unit,settings,tests/unit/directory $S/smtpd/settings $S/smtpd/expressions $L/stamp control/control control/table,-lcdb))
$(eval $(call unit,transfer,tests/unit/directory tests/unit/queued $(addprefix $S/smtpd/,transfer netstring hops received settings expressions) \
	$L/input $(LISTEN) $L/date822 control/control,-lcdb))
# a session of qmail-smtpd
SMTPD := tests/unit/directory tests/unit/smtpd tests/unit/queued $(addprefix $S/smtpd/,session command auth submission completion delivery recipient session_log reply path \
	parameters content settings expressions policy received rcptcheck checkprogram dnsbl) $L/sasl $L/login_client $L/login_protocol $L/login_runner $L/input $L/peer $(SERVER_TLS) $L/localaddress $L/stamp $L/date822 $L/message_id \
	control/control control/table queue/envelope
SMTPD_TLS_WRAP := $(call wrap,server_tls_reach server_tls_start server_tls_end)
$(eval $(call unit,smtpd_command,$(SMTPD),-lcdb $(SMTPD_TLS_WRAP)))
$(eval $(call unit,smtpd_auth,$(SMTPD),-lcdb $(SMTPD_TLS_WRAP) $(call wrap,login_client_check login_runner_run submission_connect submission_sender submission_message)))
$(eval $(call unit,smtpd_delivery,$(SMTPD),-lcdb))
$(eval $(call unit,session_log,$(SMTPD),-lcdb))
$(eval $(call unit,recipient,$(SMTPD),-lcdb))
$(eval $(call unit,smtpd_session,tests/unit/server $(SMTPD),-lcdb $(SMTPD_TLS_WRAP)))
$(eval $(call unit,service_socket,tests/unit/directory tests/unit/process $L/service_socket,$(call wrap,poll)))
$(eval $(call unit,tls_engine,tests/unit/directory $L/tls_engine $L/service_socket))
$(eval $(call unit,server_tls,tests/unit/directory $(SERVER_TLS),$(call wrap,tls_engine_reach tls_engine_start tls_engine_end)))
$(eval $(call unit,certificate,$L/certificate))
$(eval $(call unit,keystore,tests/unit/directory $S/tls/keystore $S/tls/keypair $L/certificate,-lbearssl))
$(eval $(call unit,siphash,$L/siphash))
$(eval $(call unit,login_protocol,$L/login_protocol))
$(eval $(call unit,sasl,$L/sasl))
$(eval $(call unit,login_throttle,$S/users/login_throttle $L/siphash))
$(eval $(call unit,login_client,tests/unit/directory $L/login_client $L/login_protocol $L/service_socket))
$(eval $(call unit,authorization,$S/pop3d/authorization $S/pop3d/capabilities $S/pop3d/output $L/sasl $(SERVER_TLS) $L/mail_data $L/input $L/peer control/control))
$(eval $(call unit,pump,$S/pop3d/pump))
$(eval $(call unit,login_chain,tests/unit/directory tests/unit/process $S/users/login_chain $L/login_protocol))
$(eval $(call unit,login_runner,tests/unit/directory $L/login_runner $L/service_socket))
$(eval $(call unit,checkprogram,$S/smtpd/checkprogram))
$(UNIT_BUILD)/$S/smtpd/checkprogram.o: CPPFLAGS += -DCHECKPROGRAM_SECONDS=2

$(UNIT_BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(say) $(CC) $(CPPFLAGS) $(UNIT_FLAGS) -MMD -MP -c -o $@ $<

-include $(shell find $(UNIT_BUILD) -name '*.d' 2>/dev/null)

.PHONY: unit $(UNITS:%=run-%)
unit: $(UNITS:%=run-%)

# what a unit says is shown if it fails
$(UNITS:%=run-%): run-%: $(UNIT_BUILD)/bin/%
	$(say) $< >$<.log 2>&1 || { cat $<.log; exit 1; }
