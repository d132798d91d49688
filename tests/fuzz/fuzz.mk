# make fuzz: what reads other people's octets, given any octets, under ASan and UBSan, by clang's libFuzzer. README.md has them all.
# $(call fuzzer,NAME,modules,libraries): the target itself is tests/fuzz/NAME.c; NAME.words beside it is its
# dictionary, and NAME.seeds, if there are any, are inputs to begin with.
# FUZZ_SECONDS is the time for each, in make check a second; FUZZ_SEEDS: a directory of more inputs to begin with, such as messages. What is found to reach new
# code is kept in build/fuzz, for the next time.

FUZZ_SECONDS ?= $(if $(filter check,$(MAKECMDGOALS)),1,60)
FUZZ_SEEDS ?=
FUZZ_BUILD := $(BUILD)/fuzz
FUZZ_FLAGS := -std=gnu17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
FUZZ_COVERAGE_FLAGS := -std=gnu17 -O1 -g -fsanitize=fuzzer -fprofile-instr-generate -fcoverage-mapping
FUZZERS :=

define fuzzer
FUZZERS += $(1)
$(FUZZ_BUILD)/bin/$(1): $(patsubst %,$(FUZZ_BUILD)/objects/%.o,tests/fuzz/$(1) $(2))
	@mkdir -p $$(@D)
	$$(say) clang $$(FUZZ_FLAGS) -o $$@ $$^ $(3)
$(FUZZ_BUILD)/coverage/$(1): $(FUZZ_BUILD)/bin/$(1)
	@mkdir -p $$(@D)
	$$(say) clang $$(CPPFLAGS) $$(FUZZ_COVERAGE_FLAGS) -o $$@ $(patsubst %,%.c,tests/fuzz/$(1) $(2)) $(3)
endef

$(FUZZ_BUILD)/objects/%.o: %.c
	@mkdir -p $(@D)
	$(say) clang $(CPPFLAGS) $(FUZZ_FLAGS) -MMD -MP -c -o $@ $<

$(eval $(call fuzzer,smtp_reply,$S/remote/smtp_reply $L/mail_data))
# whole sessions, on a wire and with a clock of its own
$(eval $(call fuzzer,remote_session,$(addprefix $S/remote/,session smtp_login connection smtp_reply transaction downgrade smtp_command report remote_report) $(MIME) $L/domain $L/quote queue/envelope,-lskarnet $(IDN) $(call wrap,clock_gettime poll recv sendmsg)))
$(eval $(call fuzzer,downgrade,$S/remote/downgrade $(MIME)))
$(eval $(call fuzzer,sts,$S/remote/sts_policy $S/remote/sts_record))
$(eval $(call fuzzer,smtp_command,$S/smtpd/path $S/smtpd/parameters $S/smtpd/content $L/quote queue/envelope,-lskarnet))
$(eval $(call fuzzer,smtp_session,$(addprefix $S/smtpd/,session command auth submission author completion delivery recipient recipient_checks session_log reply path parameters content settings \
	expressions policy received rcptcheck checkprogram dnsbl dnsbl_silence) $L/sasl $L/login_client $L/login_protocol $L/login_runner $L/address822 $L/message_id $L/input $(LISTEN) $(SERVER_TLS) $L/localaddress $L/date822 queue/envelope control/control,-lcdb -lskarnet))
$(eval $(call fuzzer,pop3_login,$S/pop3d/authorization $S/pop3d/capabilities $S/pop3d/output $L/sasl $L/input $L/peer control/control,-lskarnet))
$(eval $(call fuzzer,pop3_session,$(addprefix $S/pop3d/,session command capabilities) $(RETRIEVAL) $L/input $L/peer control/control,-lskarnet))
$(eval $(call fuzzer,surrogate,$S/pop3d/surrogate $(sort $(ASCII_FIELD) $(MIME)),-lskarnet))
$(eval $(call fuzzer,submitted,$(addprefix $S/smtpd/,completion author) $L/address822 $L/message_id $L/date822,-lskarnet))
$(eval $(call fuzzer,login,$L/sasl $L/login_protocol $S/users/login $L/become,-lskarnet $(call wrap,close read)))
$(eval $(call fuzzer,accounts,users/virtual users/account control/table,-lcdb -lskarnet))
$(eval $(call fuzzer,certificates,$S/remote/server_chain $S/tls/keypair $L/certificate,-lbearssl -lskarnet))
$(eval $(call fuzzer,tls_records,$(addprefix $S/tls/,tunnel server_policy keypair) $L/key_chain $L/suites $L/certificate,-lbearssl -lskarnet))
$(eval $(call fuzzer,tls_server_records,$(addprefix $S/remote/,tls_client client_certificate server_chain) $L/key_client $L/key_chain $L/service_socket $L/suites,-lbearssl -lskarnet $(call wrap,getrandom)))
$(eval $(call fuzzer,tls_packets,$L/server_tls $L/tls_engine $L/service_socket,-lskarnet $(call wrap,service_socket_connect)))
$(eval $(call fuzzer,keyd,$S/tls/keystore $S/tls/keypair $L/certificate $L/service_socket $L/service_users $L/home control/control,-lbearssl -lskarnet))

$(eval $(call fuzzer,qmtp,$S/smtpd/netstring $S/smtpd/content $L/input,-lskarnet))
$(eval $(call fuzzer,qmqp,$S/smtpd/netstring $L/input,-lskarnet))
$(eval $(call fuzzer,qmqpc,$S/queue/caller queue/envelope queue/protocol $L/home control/control,-lskarnet))
$(eval $(call fuzzer,ident,,-lskarnet $(call wrap,getnameinfo)))
$(eval $(call fuzzer,mtastsfetch,$S/remote/authorities $L/dns $L/home control/control,-lcurl -lcares -lskarnet))
$(eval $(call fuzzer,dns,$(addprefix $S/remote/,mx dane tlsa server_proof trust_anchors authorities server_chain) $S/smtpd/dnsbl_list $L/localaddress $L/domain $L/certificate control/control,-lcares -lbearssl -lskarnet $(IDN)))

# services, and what they say to their clients
$(eval $(call fuzzer,submitd,$(addprefix $S/smtpd/,senders address_pattern account_limits allowance) $L/siphash $L/stamp $L/held_signals $L/service_loop $L/service_socket $L/service_users $L/home control/control,-lskarnet $(call wrap,service_socket_receive_from service_socket_say)))
$(eval $(call fuzzer,sts_service,$(addprefix $S/remote/,sts_service sts_cache sts_policy) $L/siphash $L/service_socket,-lskarnet $(call wrap,clock_gettime time poll fsync)))
$(eval $(call fuzzer,rcptd,$(addprefix $S/smtpd/,deliverable fresh_routes known) $S/send/route $S/local/dotqmail $S/local/report users/passwd users/account $L/stamp $L/service_socket $L/home control/control control/table,-lcdb -lskarnet $(call wrap,stat)))
$(eval $(call fuzzer,checkprogram,,-lskarnet))
$(eval $(call fuzzer,answers,$S/smtpd/rcptcheck $S/queue/listing $(addprefix $S/remote/,sts_client sts_policy) $(addprefix $L/,login_client login_protocol key_client service_socket channel replaced) queue/client queue/runner queue/protocol,-lskarnet $(call wrap,connect poll service_socket_connect)))

# what local programs, users and the administrator hand over
$(eval $(call fuzzer,envelope,queue/envelope,-lskarnet))
$(eval $(call fuzzer,records,queue/record queue/info queue/envelope queue/digest $L/siphash queue/protocol,-lskarnet))
$(eval $(call fuzzer,ring,queue/digest $L/siphash,-lskarnet))
$(eval $(call fuzzer,submit,queue/envelope $L/channel $L/date822,-lskarnet))
$(eval $(call fuzzer,reports,$(addprefix $S/queue/,flush ledger survey writers) $L/channel $L/siphash $(addprefix queue/,protocol envelope record digest info ring),-lskarnet $(call wrap,accept4 fdatasync)))
$(eval $(call fuzzer,worker,$S/send/owner $S/send/message $S/send/places $L/job $L/channel,-lskarnet))
$(eval $(call fuzzer,notices,$S/send/message $S/send/places $S/send/heap queue/protocol $L/channel,-lskarnet))
$(eval $(call fuzzer,descriptors,$L/handover,-lskarnet))
$(eval $(call fuzzer,job,$L/job $L/spawner $L/channel,-lskarnet))
$(eval $(call fuzzer,getpw,$S/local/kept_getpw users/account $L/become $L/replaced control/table,-lcdb -lskarnet))
$(eval $(call fuzzer,bounce,$S/send/bounce $S/send/verp $S/remote/remote_report $L/notify $L/quote $L/date822 queue/envelope control/control,-lskarnet))
$(eval $(call fuzzer,address822,$L/address822,-lskarnet))
$(eval $(call fuzzer,header,$S/inject/header $S/local/field $S/local/message $S/local/trace $S/smtpd/completion $S/smtpd/author $S/smtpd/hops $L/address822 $L/quote $L/message_id $L/date822,-lskarnet))
$(eval $(call fuzzer,dotqmail,$S/local/dotqmail $S/local/report,-lskarnet))
$(eval $(call fuzzer,routes,$S/send/route $S/local/environment users/passwd users/account control/control control/table,-lcdb -lskarnet))
$(eval $(call fuzzer,pw2u,users/assign users/account $L/home control/control control/table,-lcdb -lskarnet $(call wrap,buffer_puts)))
$(eval $(call fuzzer,assign,users/assign users/account control/table,-lcdb -lskarnet))
$(eval $(call fuzzer,files,$S/local/mbox $S/pop3d/known_sizes $L/maildir $S/remote/domain_map $S/remote/tlsclientcert $S/smtpd/account_limits $S/smtpd/address_pattern $L/siphash control/control,-lskarnet $(call wrap,clock_gettime control_list)))
$(eval $(call fuzzer,table,control/table users/account users/virtual $L/rules $L/stamp,-lcdb -lskarnet))
$(eval $(call fuzzer,control,control/control $S/remote/smtproute $S/remote/tlspolicy $S/remote/domain_map $S/smtpd/senders $S/smtpd/address_pattern $S/smtpd/dnsbl_list,-lskarnet))
$(eval $(call fuzzer,domain,$L/domain,$(IDN)))

-include $(patsubst %,$(FUZZ_BUILD)/objects/tests/fuzz/%.d,$(FUZZERS)) $(wildcard $(foreach d,bin-src/* queue control users,$(FUZZ_BUILD)/objects/$d/*.d))

# One target's run, a line of what it did; all that it said is in build/fuzz/NAME.log.
.PHONY: fuzz fuzz-coverage $(addprefix fuzz-,$(FUZZERS))
fuzz: $(addprefix fuzz-,$(FUZZERS))
$(addprefix fuzz-,$(FUZZERS)): fuzz-%: $(FUZZ_BUILD)/bin/%
	@mkdir -p $(FUZZ_BUILD)/$*
	@$< -max_total_time=$(FUZZ_SECONDS) -max_len=4000 -dict=tests/fuzz/$*.words -close_fd_mask=2 \
	    -print_funcs=0 -verbosity=0 -artifact_prefix=$(FUZZ_BUILD)/ -print_final_stats=1 \
	    $(FUZZ_BUILD)/$* $(wildcard tests/fuzz/$*.seeds) $(FUZZ_SEEDS) >$(FUZZ_BUILD)/$*.log 2>&1 || { cat $(FUZZ_BUILD)/$*.log; exit 1; }
	@sed -n 's/stat::number_of_executed_units: */fuzz: $* /p' $(FUZZ_BUILD)/$*.log

# What of the modules the inputs reach that were found up to now, all targets together: the table of README.md.
fuzz-coverage: $(addprefix $(FUZZ_BUILD)/coverage/,$(FUZZERS))
	@FUZZ_SEEDS='$(FUZZ_SEEDS)' tests/fuzz/coverage $(FUZZ_BUILD) $(FUZZERS)
