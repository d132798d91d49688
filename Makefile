# tambo: build, install, test. GNU make. Every target is safe to repeat and safe with -j.
#
#   make              build everything into build/ (V=1: show the commands)
#   make up / down    a complete private server in ./run, or stop it
#   make check        all tests; crash, faults, escape, soak, asan, lint, analyze, fuzz, bench, fresh: see README.md
#   make install      programs, manual pages and services below $(DESTDIR)$(QMAIL)
#   make setup        users, groups, queue and control files of a real server (root)

# the scripts that are run here go to where they lie
unexport CDPATH

QMAIL   ?= /var/qmail
DESTDIR ?=
BUILD   ?= build
CC      ?= gcc
OPT     ?= -O2 -g
WERROR  ?=
SANITIZE ?=
V        ?=
# one line a command; V=1 shows it whole
say       = $(if $(V),,@echo '  $@' &&)

WARN     := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes $(if $(WERROR),-Werror)
HARDEN   := -fstack-protector-strong -fstack-clash-protection $(if $(SANITIZE),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
# sorted, small variables lie together: a forked child has fewer pages of its own
HARDENLD := -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed -Wl,--gc-sections -Wl,--sort-section=alignment
CPPFLAGS += -D_GNU_SOURCE -DQMAIL_HOME='"$(QMAIL)"' -DCARES_NO_DEPRECATED -I. -iquote bin-src/lib
CFLAGS   += -std=gnu17 $(OPT) $(WARN) $(HARDEN) -fPIE -ffunction-sections -fdata-sections $(SANITIZE)
STATIC   := $(if $(SANITIZE),-pie,-static-pie)
SANITIZED := $(if $(SANITIZE),tests/sanitized)

# as many jobs as there are processors, where no -j says otherwise
ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

S := bin-src
L := bin-src/lib

# What the goals need installed; the file packages says which packages that is. Looked at before anything else.
needs-up     := build run
needs-unit   := build test
needs-system := build run test
needs-check  := $(needs-system) fuzz
needs-crash  := $(needs-system)
needs-escape := $(needs-system)
needs-crash-mutants := $(needs-system)
needs-faults := $(needs-system)
needs-faults-mutants := $(needs-system)
needs-soak   := $(needs-system)
needs-asan   := $(needs-system)
needs-lint   := build lint
needs-analyze := build lint
needs-bench  := build run bench
needs-fuzz   := build fuzz
needs-fuzz-coverage := build fuzz coverage
needs-fresh  := fresh
NEEDS := $(sort $(foreach goal,$(MAKECMDGOALS),$(needs-$(goal))))
ifneq ($(if $(findstring n,$(firstword -$(MAKEFLAGS))),,$(NEEDS)),)
ifneq ($(shell admin/packages $(NEEDS) >&2; echo $$?),0)
$(error packages are missing)
endif
endif

.DEFAULT_GOAL := all
.PHONY: all
PROGRAMS :=
SCRIPTS  :=
OBJECTS  :=

# program NAME, modules (paths without .c), libraries, link mode ($(STATIC), or -pie where the name service is needed).
# A line is a statement of trust: what is not named in it, that program cannot do.
define program
PROGRAMS += $(1)
OBJECTS += $$(patsubst %,$(BUILD)/%.o,$(2) $(SANITIZED))
$(BUILD)/bin/$(1): $$(patsubst %,$(BUILD)/%.o,$(2) $(SANITIZED)) | $(BUILD)/bin
	$$(say) $$(CC) $$(CFLAGS) $(4) $$(HARDENLD) -o $$@ $$^ $(3)
endef

# script NAME, file: a program that is a script. same NAME, program: a second name (hard link) of a program.
define script
SCRIPTS += $(1)
$(BUILD)/bin/$(1): $(2) | $(BUILD)/bin
	@install -m 755 $(2) $$@
endef
define same
SCRIPTS += $(1)
$(BUILD)/bin/$(1): $(BUILD)/bin/$(2)
	@ln -f $(BUILD)/bin/$(2) $$@
endef

include programs.mk

all: $(addprefix $(BUILD)/bin/,$(PROGRAMS) $(SCRIPTS))

$(BUILD)/bin:
	@mkdir -p $@

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(say) $(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(patsubst %.o,%.d,$(sort $(OBJECTS)))

# The home that is built in: another QMAIL than the last time is built anew.
.PHONY: always
$(BUILD)/generated/home: always
	@mkdir -p $(@D)
	@[ "$$(cat $@ 2>/dev/null)" = '$(QMAIL)' ] || echo '$(QMAIL)' >$@

$(BUILD)/$L/home.o: $(BUILD)/generated/home

# The filters of lib/sandbox are compiled while building; only this program needs libseccomp.
$(BUILD)/sandbox-calls: $L/sandbox-calls.c
	@mkdir -p $(@D)
	$(say) $(CC) $(CPPFLAGS) -std=gnu17 $(WARN) -O1 -o $@ $< -lseccomp

$(BUILD)/generated/sandbox-filters.h: $(BUILD)/sandbox-calls
	@mkdir -p $(@D)
	@$< >$@.new && mv $@.new $@

$(BUILD)/$L/sandbox.o: $(BUILD)/generated/sandbox-filters.h
$(BUILD)/$L/sandbox.o: CPPFLAGS += -I$(BUILD)/generated

# --- tests -----------------------------------------------------------------
include tests/unit/units.mk
include tests/fuzz/fuzz.mk

# four tests at once: most of them wait for a process now and then; PYTEST_JOBS=0 runs one after another. A test that hangs
# fails after some minutes, and says where.
PYTEST_JOBS ?= 4
PYTEST   ?= /usr/bin/python3 -m pytest -q -p no:cacheprovider --timeout=240 -n $(PYTEST_JOBS) --dist loadgroup
ASAN     := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer

.PHONY: check system crash crash-mutants faults faults-mutants escape soak lint analyze asan bench fresh
check: unit fuzz system

# the units and fuzzers first, if all are wanted: they take every processor, and some system tests measure time
system: all $(if $(filter check,$(MAKECMDGOALS)),unit fuzz)
	BUILD=$(BUILD) PYTHONDONTWRITEBYTECODE=1 $(PYTEST) $(TESTS) tests/system $(wildcard tests/crash tests/faults tests/escape)

# the states that a power cut could leave, and that wrong programs are found by them: tests/crash/README.md. CRASH='-n 1000'
crash: all
	BUILD=$(BUILD) /usr/bin/python3 tests/crash/crash.py $(CRASH)

crash-mutants: all
	BUILD=$(BUILD) tests/crash/mutants/run $(MUTANTS)

# system calls that fail, programs that are killed, a full disk: tests/faults/README.md. FAULTS='-n 100'
faults: all
	BUILD=$(BUILD) /usr/bin/python3 tests/faults/faults.py $(FAULTS)

faults-mutants: all
	BUILD=$(BUILD) tests/faults/mutants/run $(MUTANTS)

# half an hour of load: tests/soak/README.md. SOAK='-m 5': five minutes
soak: all
	BUILD=$(BUILD) /usr/bin/python3 tests/soak/soak.py $(SOAK)

# what each program could do if it was taken over, compared with SECURITY: tests/escape/README.md, root. ESCAPE=-w writes it there
escape: all
	BUILD=$(BUILD) PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 tests/escape/escape.py $(ESCAPE)

lint: all
	@admin/lint $(BUILD)

# the static analyzers to their end, too slow for every commit: some ten minutes
analyze: all
	@admin/analyze $(BUILD)

asan:	# the same tests, every program built with the sanitizers, as the variable tells them
	ASAN_OPTIONS=detect_leaks=0 $(MAKE) BUILD=build-asan SANITIZE='$(ASAN)' OPT='-O1 -g' system

bench: all
	BUILD=$(BUILD) tests/bench/run
	BUILD=$(BUILD) tests/bench/network
	BUILD=$(BUILD) tests/bench/pop3

fresh:	# the two commands of the README in fresh systems: root, a mirror
	@tests/fresh/run $(RELEASES)

# --- install ----------------------------------------------------------------
.PHONY: install setup up down
install: all
	@admin/install $(BUILD) $(DESTDIR)$(QMAIL)

setup: install
	DESTDIR=$(DESTDIR) $(DESTDIR)$(QMAIL)/bin/qmail-setup $(HOST)

up: all
	@admin/up $(BUILD)

down:
	@admin/down

.PHONY: clean
clean:
	rm -rf build build-*
