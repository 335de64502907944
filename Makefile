# SPDX-License-Identifier: Apache-2.0
# make            build/vireo
# make run        a shell in a VM that runs Debian's kernel
# make check      all tests; ends with "N passed, N failed, N skipped"
# make check-long the same, with the long runs; check-san, check-clang: built that way
# make fuzz       hostile drivers and images for a minute or two, with the sanitizers (FUZZ_SECONDS each)
# make check-tsan the unit tests of what has threads, with the thread sanitizer (LONG=1: Linux, too)
# make bench      times native, QEMU and Vireo: SCALE=0.3 RUNS=3 ONLY=sort,fib CONFIGS=...
# make bench-smp  what several processors are worth, beside QEMU
# make install    into $(DESTDIR)$(PREFIX)
# make deb        a Debian package in $(BUILD)/deb
# Variables: CC, BUILD (output folder), SAN=1 (address and undefined sanitizers), TSAN=1 (threads),
# STATIC=1 (libraries that have an archive go into the program), V=1.
CC      ?= cc
BUILD   ?= build
SAN     ?= 0
CFLAGS  ?= -O2 -g
VERSION := $(shell cat VERSION)

WARN     = -Wall -Wextra -Wimplicit-fallthrough -Werror
CPPFLAGS += -Isrc -I/usr/include/libxml2 -D_GNU_SOURCE -DVIREO_VERSION='"$(VERSION)"'
ALLFLAGS = -std=gnu11 $(WARN) $(CFLAGS) -fno-strict-aliasing -pthread -MMD -MP
LIBS     = Zydis slirp seccomp uring z zstd jansson nettle archive xml2
ifeq ($(STATIC),1)
# Those of which this system has an archive go into the program.  Where all have one, the C
# library does too; Debian has none of Zydis and libslirp, which then stay shared with it.
# The archives of libarchive and libxml2 would need those of many others.
ARCHIVES = $(foreach l,$(filter-out archive xml2,$(LIBS)),$(if $(findstring /,$(shell $(CC) -print-file-name=lib$(l).a)),$(l)))
SHARED   = $(filter-out $(ARCHIVES),$(LIBS))
LDLIBS  += -Wl,-Bstatic $(ARCHIVES:%=-l%) -Wl,-Bdynamic $(SHARED:%=-l%) -pthread
LDFLAGS += -static-libgcc $(if $(SHARED),,-static)
$(info static: $(ARCHIVES); shared: $(if $(SHARED),$(SHARED) and the C library,none))
else
LDLIBS  += $(LIBS:%=-l%) -pthread
endif
ifeq ($(SAN),1)
ALLFLAGS += -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
endif
ifeq ($(TSAN),1)
# It leaves a process 1 TiB: smaller tables, whose entries have tags.  Guest memory is raced for by
# right, so what accesses it is not watched; nor is what runs while the guest's SIMD registers are
# live.
ALLFLAGS += -fsanitize=thread -fno-omit-frame-pointer -Wno-tsan -DTLB_INDEX_BITS=24 -DFPU_KEEP_LIVE=0
LDFLAGS += -fsanitize=thread
GUEST_ACCESS = $(patsubst src/%.c,$(BUILD)/obj/%.o,$(wildcard src/engine/soft/exec_*.c) \
	       src/engine/soft/host.c src/engine/soft/vector.c src/engine/soft/xsave.c src/cpu/mmu.c src/cpu/fpu.c)
$(GUEST_ACCESS): UNWATCHED = -fno-sanitize=thread
endif

# Sources by folder, from the ground up; includes only point down this list.
FOLDERS = base x86 mem cpu engine engine/soft engine/kvm dev backend virtio boot machine mgmt
SRC     = $(foreach d,$(FOLDERS),$(wildcard src/$(d)/*.c))
OBJ     = $(SRC:src/%.c=$(BUILD)/obj/%.o)
LIBOBJ  = $(filter-out $(BUILD)/obj/mgmt/main.o,$(OBJ))
# Guest SIMD state stays in the host's registers while these run (cpu/fpu.h), so no loop in
# them may become a call of memcpy or memset either.
GENERAL_FLAGS = -mgeneral-regs-only -fno-builtin
ifeq ($(findstring clang,$(CC)),)
GENERAL_FLAGS += -fno-tree-loop-distribute-patterns
endif
GENERAL = x86 mem cpu engine/soft
$(foreach d,$(GENERAL),$(eval $(BUILD)/obj/$(d)/%.o: REGS = $(GENERAL_FLAGS)))
# This searches with vectors, and is called when the guest's are put away.
$(BUILD)/obj/cpu/cell_code.o: REGS =

Q = $(if $(V),,@)

all: $(BUILD)/vireo
objs: $(OBJ)

$(BUILD)/vireo: $(OBJ)
	$(Q)echo "  LD    $@"
	$(Q)$(CC) $(ALLFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/libvireo.a: $(LIBOBJ)
	$(Q)echo "  AR    $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/obj/%.o: src/%.c Makefile
	$(Q)mkdir -p $(@D)
	$(Q)echo "  CC    $<"
	$(Q)$(CC) $(CPPFLAGS) $(ALLFLAGS) $(UNWATCHED) $(REGS) -c -o $@ $<

# What a compiler says of a missing header does not name the package.
$(OBJ): | $(BUILD)/packages
$(BUILD)/packages: tools/packages.sh
	$(Q)mkdir -p $(@D)
	$(Q)tools/packages.sh build && touch $@

# For the sandbox's messages.
NAMES = $(BUILD)/obj/base/syscall_names.inc
$(NAMES): Makefile
	$(Q)mkdir -p $(@D)
	$(Q)echo '#include <asm/unistd_64.h>' | $(CC) -E -dM - | \
		sed -n 's/^#define __NR_\([a-z0-9_]*\) \([0-9]*\)$$/[\2] = "\1",/p' >$@
$(BUILD)/obj/base/confine_report.o: $(NAMES)
$(BUILD)/obj/base/confine_report.o: CPPFLAGS += -I$(BUILD)/obj/base

# The script is part of the program.
$(BUILD)/obj/mgmt/image_debian.o: src/mgmt/debian12.sh

# The guest's first program is part of vireo, too: static, and plain C whatever vireo is built with.
GUESTSRC = $(wildcard src/guest/*.c)
$(BUILD)/guest-init: $(GUESTSRC) src/guest/guest.h src/base/session_wire.h
	$(Q)mkdir -p $(@D)
	$(Q)echo "  GUEST $@"
	$(Q)$(CC) $(CPPFLAGS) -std=gnu11 $(WARN) -Os -static -s -o $@ $(GUESTSRC)
$(BUILD)/obj/mgmt/guest_init.o: CPPFLAGS += -DGUEST_INIT='"$(BUILD)/guest-init"'
$(BUILD)/obj/mgmt/guest_init.o: $(BUILD)/guest-init

# Tools that the build and the tests use; not installed.
TOOLS    = $(BUILD)/mkinitramfs

# Tests: each tests/unit/*/*.c is one cmocka program.
UNIT     = $(wildcard tests/unit/*/*.c)
UNITBIN  = $(UNIT:tests/%.c=$(BUILD)/tests/%)

$(BUILD)/tests/unit/%: tests/unit/%.c $(BUILD)/libvireo.a
	$(Q)mkdir -p $(@D)
	$(Q)echo "  TEST  $@"
	$(Q)$(CC) $(CPPFLAGS) -Itests/lib $(ALLFLAGS) $(LDFLAGS) -o $@ $< $(BUILD)/libvireo.a $(LDLIBS) -lcmocka

unit: $(UNITBIN)

# The instruction oracle: the host's processor against an engine.
ORACLESRC = $(wildcard tests/insn/*.c)
ORACLE    = $(BUILD)/tests/insn/oracle

$(ORACLE): $(ORACLESRC) $(wildcard tests/insn/*.h tests/insn/*.def) tests/lib/processor.h $(BUILD)/libvireo.a
	$(Q)mkdir -p $(@D)
	$(Q)echo "  TEST  $@"
	$(Q)$(CC) $(CPPFLAGS) -Itests/lib $(filter-out -MMD -MP,$(ALLFLAGS)) $(LDFLAGS) -o $@ $(ORACLESRC) \
		$(BUILD)/libvireo.a $(LDLIBS)

# A guest that runs while its VM changes engines.
MOVE      = $(BUILD)/tests/kvm/move

$(MOVE): tests/kvm/move.c $(BUILD)/libvireo.a
	$(Q)mkdir -p $(@D)
	$(Q)echo "  TEST  $@"
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -MMD -MP,$(ALLFLAGS)) $(LDFLAGS) -o $@ $< \
		$(BUILD)/libvireo.a $(LDLIBS)

# Everything in tests/ that runs by itself: cmocka programs, scripts.
SCRIPTS  = $(sort $(filter-out tests/lib/%,$(wildcard tests/*/*.sh tests/*/*.py)))
export BUILD CC SAN
# The same random numbers each time, so that what fails is a change's doing; the long check and
# make fuzz go elsewhere each time.
SEEDS    = $(if $(LONG),,$(foreach s,FUZZ ORACLE HOSTILE,$(s)_SEED=$(or $($(s)_SEED),1)))
check:
	$(Q)tools/packages.sh check
	$(Q)$(MAKE) --no-print-directory all unit $(ORACLE) $(MOVE) $(TOOLS)
	$(Q)$(SEEDS) tests/run $(UNITBIN) $(SCRIPTS)

# LONG=1 tells the tests to take their time.
check-long: export LONG = 1
check-long check-tsan: export TEST_TIMEOUT ?= 2700
check-long: check
check-san:
	$(Q)$(MAKE) SAN=1 BUILD=build-san check
check-clang:
	$(Q)$(MAKE) CC=clang BUILD=build-clang check
check-tsan:
	$(Q)$(MAKE) TSAN=1 BUILD=build-tsan all unit build-tsan/mkinitramfs
	$(Q)BUILD=build-tsan tests/run tests/lib/tsan.sh tests/lib/tsan_linux.sh

FUZZERS  = $(addprefix $(BUILD)/tests/unit/,virtio/fuzz virtio/mmio backend/qcow2_damage backend/p9_fuzz \
	   backend/net_frame backend/net_socket backend/net_switch backend/user_ahead dev/chips_fuzz machine/board_fuzz \
	   machine/reset_vector soft/test_fuzz soft/test_wild)
fuzzers: $(FUZZERS)
fuzz:
	$(Q)$(MAKE) --no-print-directory SAN=1 BUILD=build-san fuzzers
	$(Q)BUILD=build-san tests/run tests/lib/fuzz.sh

$(BUILD)/mkinitramfs: tools/mkinitramfs.c
	$(Q)mkdir -p $(@D)
	$(Q)echo "  TOOL  $@"
	$(Q)$(CC) $(CPPFLAGS) $(ALLFLAGS) $(LDFLAGS) -o $@ $<

run:
	$(Q)tools/run.sh

# Minutes of timing, on a quiet machine; bench/run says how to read the table.
SCALE   ?= 1
RUNS    ?= 3
bench: all $(TOOLS)
	$(Q)bench/run --scale $(SCALE) --runs $(RUNS) $(if $(ONLY),--only $(ONLY)) \
		$(if $(CONFIGS),--configs $(CONFIGS))

# The same of several processors: bench/smp says what is measured.
bench-smp: all $(TOOLS)
	$(Q)bench/smp --runs $(RUNS)

PREFIX  ?= /usr/local
SHARE    = $(DESTDIR)$(PREFIX)/share
DOCS     = README.md HACKING.md SPECIFICATION.md $(wildcard docs/*.md)
install: all
	install -D -m 755 $(BUILD)/vireo $(DESTDIR)$(PREFIX)/bin/vireo
	install -D -m 644 -t $(SHARE)/man/man1 $(wildcard man/*.1)
	install -D -m 644 docs/vm.schema.json $(SHARE)/vireo/vm.schema.json
	install -D -m 644 -t $(SHARE)/doc/vireo $(DOCS)
	install -D -m 644 -t $(SHARE)/doc/vireo/examples $(wildcard docs/examples/*)
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/user
	sed 's|@PREFIX@|$(PREFIX)|' packaging/vireo@.service.in \
		>$(DESTDIR)$(PREFIX)/lib/systemd/user/vireo@.service
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/vendor-completions \
		$(SHARE)/fish/vendor_completions.d
	$(BUILD)/vireo completion bash >$(SHARE)/bash-completion/completions/vireo
	$(BUILD)/vireo completion zsh >$(SHARE)/zsh/vendor-completions/_vireo
	$(BUILD)/vireo completion fish >$(SHARE)/fish/vendor_completions.d/vireo.fish

# A Debian package, beside the source's folder's build: $(BUILD)/deb
deb:
	tools/deb.sh $(BUILD)/deb

clean:
	rm -rf $(BUILD)

.PHONY: bench-smp all objs unit check check-long check-san check-clang check-tsan fuzz fuzzers run bench install deb clean
-include $(OBJ:.o=.d) $(UNITBIN:=.d) $(TOOLS:=.d)
