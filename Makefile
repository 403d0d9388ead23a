# make            build/tazpod-init and build/tazpod, both static
# make try        installs what is missing, builds, opens a pod, runs the main job
# make check      installs what is missing, runs the tests; check-long: their long forms
# make bench      prints figures beside those of other programs
# make install    DESTDIR= PREFIX=
#
# CFLAGS and LDFLAGS are yours; ours stand beside them. DEBUG=1: no optimiser. SAN=1: address and
# undefined behaviour sanitizers, for the unit tests (a filtered worker does not survive them).

VERSION = 0.1.0
PREFIX = /usr/local
SBINDIR = /sbin
B = build

CFLAGS ?= -O2 -g
WARN = -Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 \
       -Wpointer-arith -Wundef -Wvla
ifneq ($(CI)$(WERROR),)
WARN += -Werror
endif
OURS = -std=c11 -D_GNU_SOURCE -DTAZPOD_VERSION='"$(VERSION)"' $(WARN) -fstack-protector-strong \
       -ffunction-sections -fdata-sections -ffile-prefix-map=$(CURDIR)=.
HARD = -D_FORTIFY_SOURCE=2 -fstack-clash-protection -fcf-protection
LINK = -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack
# FORTIFY needs an optimising compiler, and -fcf-protection is x86's.
ifneq ($(shell uname -m),x86_64)
HARD := $(filter-out -fcf-protection,$(HARD))
endif
ifdef DEBUG
CFLAGS = -O0 -g3
HARD := $(filter-out -D_FORTIFY_SOURCE=2,$(HARD))
endif

# PID 1: musl where it is there, for its size; glibc works too. musl's static-pie silently gives a
# dynamic program, so it is plain static. Of the hardening it has what a C library does not have to
# help with (musl has no FORTIFY, and its own code has not the marks of -fcf-protection, without which
# nothing is checked), and no RELRO: a static program binds nothing, and the page of its
# own that it takes would be 4 kB of memory and of file. Text and constants share one segment, which
# nobody can write. The C library's own macros trip -Wsign-conversion.
MUSL := $(shell command -v musl-gcc 2>/dev/null)
INIT_CC = $(if $(MUSL),$(MUSL),$(CC))
INIT_FLAGS = $(OURS) $(filter-out -D_FORTIFY_SOURCE=2 -fcf-protection,$(HARD)) -Os -fno-asynchronous-unwind-tables -Wno-sign-conversion
INIT_LINK = -static -Wl,--gc-sections -Wl,-z,noexecstack -Wl,-z,norelro -Wl,-z,noseparate-code -Wl,--build-id=none

ifdef SAN
CFLAGS = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
INIT_CC = $(CC)
INIT_LINK = -Wl,--gc-sections
endif

CLI_FLAGS = $(OURS) $(HARD) -fPIE
CLI_LINK = -static-pie $(LINK) -Wl,--build-id=none
ifdef SAN
CLI_LINK = -pie $(LINK)
endif
LIBS = -larchive -lzstd -lsodium -lseccomp -linih

INIT = main pod prepare resume step control worker ram mount caps key child procs owner options signals wire log dir notify number fault record
VAULT = base/err base/io base/secret header code kdf seal entry pack store seen memory swap config sandbox holders
CLI = main command client prompt plain askpass passphrase open unlock lock save status beside history aside restore shell verify health config json worker work_open \
      work_seal work_rewrite slots order credential rewrite meanwhile recovery key work_pack work_config work_look
SHARED = wire

INIT_OBJ = $(INIT:%=$(B)/init/%.o)
CLI_OBJ = $(CLI:%=$(B)/cli/%.o) $(VAULT:%=$(B)/vault/%.o) $(SHARED:%=$(B)/cli/init/%.o)

all: $(B)/tazpod-init $(B)/tazpod

$(B)/tazpod-init: $(INIT_OBJ)
	$(INIT_CC) $(CFLAGS) $(LDFLAGS) $(INIT_LINK) -o $@ $(INIT_OBJ)

$(B)/tazpod: $(CLI_OBJ)
	$(CC) $(CFLAGS) $(LDFLAGS) $(CLI_LINK) -o $@ $(CLI_OBJ) $(LIBS)

$(B)/init/%.o: init/%.c Makefile
	@mkdir -p $(@D)
	$(INIT_CC) $(CFLAGS) $(INIT_FLAGS) -MMD -c -o $@ $<

$(B)/cli/%.o: cli/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CLI_FLAGS) -MMD -c -o $@ $<

$(B)/vault/%.o: vault/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CLI_FLAGS) -MMD -c -o $@ $<

# The wire code once more, for tazpod: another compiler, other flags.
$(B)/cli/init/%.o: init/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CLI_FLAGS) -MMD -c -o $@ $<

install: all
	install -D -m 0711 $(B)/tazpod-init $(DESTDIR)$(SBINDIR)/tazpod-init
	install -D -m 0711 $(B)/tazpod $(DESTDIR)$(PREFIX)/bin/tazpod

install-man:
	install -D -m 0644 docs/man/tazpod.1 $(DESTDIR)$(PREFIX)/share/man/man1/tazpod.1
	install -D -m 0644 docs/man/tazpod.ini.5 $(DESTDIR)$(PREFIX)/share/man/man5/tazpod.ini.5
	install -D -m 0644 docs/man/tazpod-init.8 $(DESTDIR)$(PREFIX)/share/man/man8/tazpod-init.8

try:
	tests/packages try
	$(MAKE) all
	tests/try

# Named parts: make check-long PARTS="stop-time memory-limit"; tests/check names them.
check:
	tests/packages check
	$(MAKE) all tests
	tests/check

check-long:
	tests/packages check
	$(MAKE) all tests
	tests/check --long $(PARTS)

bench:
	tests/packages check
	$(MAKE) all tests
	tests/bench/run

# --- what the tests need beside the two programs ---

BENCH = $(B)/tests/bench-init $(B)/tests/bench-child $(B)/tests/bench-kdf
ifdef SAN
BENCH =
endif
UNIT = $(patsubst tests/unit/%.c,$(B)/tests/%,$(wildcard tests/unit/unit-*.c))
UNIT_LIB = $(B)/tests/modules.a

tests: all $(BENCH) $(UNIT)

# Every module once more, by one compiler, so that any test may call any of them.
$(B)/tests/init/%.o: init/%.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(CLI_FLAGS) -MMD -c -o $@ $<

$(UNIT_LIB): $(patsubst %,$(B)/tests/init/%.o,$(filter-out main,$(INIT))) $(VAULT:%=$(B)/vault/%.o)
	rm -f $@
	$(AR) rcs $@ $^

$(B)/tests/unit-%: tests/unit/unit-%.c tests/unit/unit.c tests/unit/unit.h $(UNIT_LIB)
	$(CC) $(CFLAGS) $(OURS) -Itests/unit -o $@ $< tests/unit/unit.c $(UNIT_LIB) -lcmocka $(LIBS)

$(B)/tests/bench-init: tests/bench/init_bench.c tests/bench/page.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) -o $@ $<

$(B)/tests/bench-child: tests/bench/child.c tests/bench/page.h
	@mkdir -p $(@D)
	$(INIT_CC) $(CFLAGS) $(OURS) -Os -static -s -o $@ $<

$(B)/tests/bench-kdf: tests/bench/kdf.c tests/bench/page.h
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OURS) -static -o $@ $< -lsodium

clean:
	rm -rf $(B)

.PHONY: all install install-man try check check-long bench tests clean
-include $(INIT_OBJ:.o=.d) $(CLI_OBJ:.o=.d)
