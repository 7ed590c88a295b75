# waxseal. `make` builds, `make demo` shows the main job, `make test` runs everything; `make help` lists the rest.
# Objects go to build/ (build/sanitize/ with SANITIZER=...). V=1 shows the commands.

B         := build$(if $(SANITIZER),/sanitize)
CC        := gcc
CLANG     := clang
PYTHON    := /usr/bin/python3
PREFIX    := /usr
SYSCONF   := /etc
Q         := $(if $(V),,@)
say        = $(if $(V),,@printf '  %-8s %s\n' '$(1)' '$(2)')

# ---- flags ----
STD       := -std=gnu11
WARN      := -Wall -Wextra -Wshadow -Wvla -Wswitch-enum -Werror
HARDEN    := -fstack-protector-strong -fPIE $(if $(SANITIZER),,-D_FORTIFY_SOURCE=2)
OPT       := -O2 -g -march=x86-64-v2
SAN       := $(if $(SANITIZER),-fsanitize=$(SANITIZER) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
CFLAGS    := $(STD) $(WARN) $(HARDEN) $(OPT) $(SAN) -D_GNU_SOURCE -MMD -MP
LDFLAGS   := -pie -Wl,-z,relro,-z,now $(SAN)
DPDK_CFLAGS = $(shell pkg-config --cflags libdpdk | sed 's/-march=[^ ]*//; s/-I/-isystem /g')
DPDK_LIBS   = $(shell pkg-config --libs libdpdk)

# ---- modules: a folder is a stage, and one archive ----
STAGES    := packet smtp tcp tls policy stats flow takeover port
CONTROLS  := policy probe discover agent cli
stage_lib  = $(patsubst %,$(B)/lib/%.a,$(1))
objects    = $(patsubst %.c,$(B)/obj/%.o,$(filter-out $(2),$(wildcard $(1)/*.c)))

# What a test of a folder links beside the folder itself ("control" is control/policy).
NEEDS_packet   := packet
NEEDS_smtp     := smtp
NEEDS_tcp      := tcp
NEEDS_tls      := tls
NEEDS_policy   := policy
NEEDS_stats    := stats policy
NEEDS_flow     := flow packet stats policy
NEEDS_takeover := takeover smtp tcp tls policy packet stats control_policy
NEEDS_control  := control_policy policy
NEEDS_discover := control_discover control_probe control_policy policy
NEEDS_agent    := control_agent control_discover control_probe control_policy policy
NEEDS_probe    := control_probe control_policy policy
NEEDS_cli      := control_cli control_discover control_probe control_policy policy
NEEDS_port     := port
NEEDS_worker   := worker takeover flow smtp tcp tls policy packet stats
# Libraries outside waxseal, by what asks for them.
LIBS_tls       := -lssl -lcrypto
LIBS_takeover  = -lssl -lcrypto -ljansson -lxxhash -lbsd $(DPDK_LIBS)
LIBS_policy    := -lxxhash
LIBS_stats     = -ljansson -lxxhash $(DPDK_LIBS)
LIBS_flow      = -ljansson -lxxhash $(DPDK_LIBS)
LIBS_port      = -lbpf $(DPDK_LIBS)
LIBS_worker    = -lssl -lcrypto -ljansson -linih -lxxhash -lbsd $(DPDK_LIBS)
LIBS_control   := -ljansson -linih -lxxhash
# libev as an archive: its shared object has libevent's names too (event_set, ...), and libunbound, which is built over
# libevent, would call those.
LIBS_probe     := -lssl -lcrypto -lxxhash -ljansson -linih
LIBS_discover  := -lxxhash -l:libev.a -lm -ljansson -linih -lunbound -lpthread
LIBS_agent     := -lcurl -lssl -lcrypto -lbsd -lxxhash -lhiredis -l:libev.a -lm -ljansson -lmicrohttpd -linih -lunbound -lpthread
LIBS_cli       := -lssl -lcrypto -lxxhash -lhiredis -l:libev.a -lm -ljansson -linih -lunbound -lpthread

.PHONY: all help clean setup
all: $(B)/waxseald $(B)/waxseal-agent $(B)/waxseal $(B)/bpf/classify.xdp.o $(B)/bpf/classify.dpdk.o

help:
	@echo 'make              build/waxseald, build/waxseal-agent, build/waxseal'
	@echo 'make demo         the main job, visibly, in network namespaces      (root)'
	@echo 'make test         everything that CI runs                           (root)'
	@echo 'make unit|evasion|golden|sim|sim-linux|bpf-test|e2e|e2e-sanitize|lint|format|fuzz     parts of it'
	@echo 'make e2e BESIDE=2  in two labs beside each other, as `make test` does  (root)'
	@echo 'make fuzz TIME=60 | fuzz-coverage   search for inputs that break it; what of each source was reached'
	@echo 'make evasion-mutants   takes out one defence after the other: the evasions must notice'
	@echo 'make soak         long runs: loss, a million sessions and a flood, leaks  (root)'
	@echo 'make bench        speed beside the peers; bench-micro: in process   (root)'
	@echo 'make lab          a standing lab to play in; make lab-down ends it  (root)'
	@echo 'make install DESTDIR=...'

# ---- compile ----
$(B)/obj/dataplane/flow/%.o $(B)/obj/dataplane/port/%.o $(B)/obj/dataplane/stats/%.o: EXTRA = $(DPDK_CFLAGS)
$(patsubst %.c,$(B)/obj/%.o,$(wildcard dataplane/*.c)): EXTRA = $(DPDK_CFLAGS)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS) $(EXTRA) -c $< -o $@

define stage_rule
$(B)/lib/$(1).a: $(call objects,dataplane/$(1))
endef
$(foreach s,$(STAGES),$(eval $(call stage_rule,$(s))))
$(B)/lib/worker.a: $(call objects,dataplane,dataplane/main.c)
$(B)/lib/control_policy.a: $(call objects,control/policy)
$(B)/lib/control_probe.a: $(call objects,control/probe)
$(B)/lib/control_discover.a: $(call objects,control/discover)
$(B)/lib/control_agent.a: $(call objects,control/agent,control/agent/main.c)
$(B)/lib/control_cli.a: $(call objects,control/cli,control/cli/main.c)
$(B)/lib/%.a:
	@mkdir -p $(@D)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/waxseald: $(B)/obj/dataplane/main.o $(B)/lib/worker.a $(call stage_lib,$(STAGES))
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(DPDK_LIBS) -lbpf -lssl -lcrypto -ljansson -lxxhash -lbsd -linih -lpthread
$(B)/waxseal-agent: $(B)/obj/control/agent/main.o $(B)/lib/control_agent.a $(B)/lib/control_discover.a $(B)/lib/control_probe.a $(B)/lib/control_policy.a $(B)/lib/policy.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_agent)
$(B)/waxseal: $(B)/obj/control/cli/main.o $(B)/lib/control_cli.a $(B)/lib/control_discover.a $(B)/lib/control_probe.a $(B)/lib/control_policy.a $(B)/lib/policy.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_cli)

BPF_INCLUDES := -I/usr/include/$(shell uname -m)-linux-gnu
$(B)/bpf/classify.xdp.o: bpf/classify.xdp.c $(wildcard bpf/*.h)
	@mkdir -p $(@D)
	$(call say,BPF,$@)
	$(Q)$(CLANG) -O2 -g -Wall -Wextra -Werror -target bpf $(BPF_INCLUDES) -c $< -o $@
$(B)/bpf/classify.dpdk.o: bpf/classify.dpdk.c $(wildcard bpf/*.h)
	@mkdir -p $(@D)
	$(call say,BPF,$@)
	$(Q)$(CLANG) -O2 -Wall -Wextra -Werror -target bpf -mcpu=v2 $(BPF_INCLUDES) -c $< -o $@

# ---- unit tests: tests/unit/<folder>_<source>.c; no root, no NIC, no hugepages ----
UNITS     := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/*.c))
folder     = $(firstword $(subst _, ,$(1)))
define unit_rule
$(B)/unit/$(1): tests/unit/$(1).c $(call stage_lib,$(NEEDS_$(call folder,$(1))))
	@mkdir -p $$(@D)
	$$(call say,TEST,$(1))
	$$(Q)$$(CC) $$(CFLAGS) $(if $(filter flow worker stats port,$(call folder,$(1))),$$(DPDK_CFLAGS)) -Idataplane -Icontrol -I. $$(LDFLAGS) -MT $$@ -o $$@ $$< -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group -lcmocka $$(LIBS_$(call folder,$(1)))
endef
$(foreach u,$(UNITS),$(eval $(call unit_rule,$(u))))
.PHONY: unit
unit: $(patsubst %,$(B)/unit/%,$(UNITS))
	@set -e; for t in $^; do echo "== $$t"; $$t; done

# ---- evasions: tests/evasion/<theme>.c, a row of its README each, against the worker as it runs in waxseald ----
EVASIONS  := $(patsubst tests/evasion/%.c,%,$(wildcard tests/evasion/*.c))
$(B)/evasion/%: tests/evasion/%.c tests/evasion/scene.h $(call stage_lib,$(NEEDS_worker) control_policy)
	@mkdir -p $(@D)
	$(call say,TEST,evasion/$*)
	$(Q)$(CC) $(CFLAGS) $(DPDK_CFLAGS) -Idataplane -I. $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group -lcmocka $(LIBS_worker)
.PHONY: evasion evasion-mutants
evasion: $(patsubst %,$(B)/evasion/%,$(EVASIONS))
	@set -e; for t in $^; do echo "== $$t"; $$t; done
evasion-mutants:
	@tests/evasion/mutants

# ---- seeded simulation: tests/sim/<folder>_<what>.c and the sources in tests/sim/<folder>/, run with SEED=n N=n ----
SIMS      := $(filter-out linux_sim,$(patsubst tests/sim/%.c,%,$(wildcard tests/sim/*_sim.c)))
sim_libs   = $(call stage_lib,$(NEEDS_$(1)) $(if $(filter worker,$(1)),control_policy))
define sim_rule
$(B)/sim/$(1): $(wildcard tests/sim/$(1).c tests/sim/$(call folder,$(1))/*.c tests/sim/*.h tests/sim/$(call folder,$(1))/*.h) $(call sim_libs,$(call folder,$(1)))
	@mkdir -p $$(@D)
	$$(call say,SIM,$(1))
	$$(Q)$$(CC) $$(CFLAGS) $(if $(filter worker,$(call folder,$(1))),$$(DPDK_CFLAGS)) -Idataplane $$(LDFLAGS) -o $$@ $$(filter %.c,$$^) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $$(LIBS_$(call folder,$(1)))
endef
$(foreach s,$(SIMS),$(eval $(call sim_rule,$(s))))
# The same sessions between Linux's own TCPs, over TAP devices; needs root.
$(B)/sim/linux_sim: $(wildcard tests/sim/linux_sim.c tests/sim/linux/* tests/sim/worker/*) $(call sim_libs,worker)
	@mkdir -p $(@D)
	$(call say,SIM,linux_sim)
	$(Q)$(CC) $(CFLAGS) $(DPDK_CFLAGS) -Idataplane $(LDFLAGS) -o $@ $(filter-out tests/sim/worker/stack.c,$(filter %.c,$^)) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LIBS_worker)
.PHONY: sim sim-linux
sim-linux: $(B)/sim/linux_sim
	@$< $(if $(SEED),--seed $(SEED)) $(if $(N),--runs $(N))
sim: $(patsubst %,$(B)/sim/%,$(SIMS))
	@set -e; for t in $^; do echo "== $$t"; $$t $(if $(SEED),--seed $(SEED)) $(if $(N),--runs $(N)); done

# ---- fuzzing: tests/fuzz/<folder>_<what>.c over its folder's sources; tests/fuzz/README.md. COVERAGE=1: the same, counted ----
FUZZERS   := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
TIME      := 60
FUZZ_B    := build/fuzz$(if $(COVERAGE),-coverage)
FUZZ_SAN  := $(if $(COVERAGE),-fprofile-instr-generate -fcoverage-mapping,-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined)
sources    = $(if $(filter worker,$(1)),$(wildcard dataplane/worker*.c),$(wildcard $(if $(filter control_%,$(1)),control/$(patsubst control_%,%,$(1)),dataplane/$(1))/*.c))
fuzz_needs = $(NEEDS_$(call folder,$(1))) $(if $(filter worker,$(call folder,$(1))),control_policy)
fuzz_objs  = $(patsubst %.c,$(FUZZ_B)/obj/%.o,tests/fuzz/$(1).c $(filter-out %/main.c,$(foreach n,$(call fuzz_needs,$(1)),$(call sources,$(n)))))
$(FUZZ_B)/obj/dataplane/flow/%.o $(FUZZ_B)/obj/dataplane/stats/%.o $(patsubst %.c,$(FUZZ_B)/obj/%.o,$(wildcard dataplane/worker*.c)) $(FUZZ_B)/obj/tests/fuzz/%.o: EXTRA = $(DPDK_CFLAGS)
$(FUZZ_B)/obj/tests/fuzz/%.o: EXTRA += -Idataplane -Icontrol -I.
$(FUZZ_B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,fuzz/$<)
	$(Q)$(CLANG) $(STD) -D_GNU_SOURCE -g -O1 -march=x86-64-v2 -MMD -MP $(FUZZ_SAN) $(EXTRA) -c $< -o $@
define fuzz_rule
$(FUZZ_B)/$(1): $(call fuzz_objs,$(1))
	$$(call say,FUZZ,$(1))
	$$(Q)$$(CLANG) -fsanitize=fuzzer $(FUZZ_SAN) -o $$@ $$^ $$(LIBS_$(call folder,$(1))) $(if $(filter worker,$(call folder,$(1))),-lcmocka)
endef
$(foreach f,$(FUZZERS),$(eval $(call fuzz_rule,$(f))))
.PHONY: fuzz fuzz-coverage
fuzz: $(patsubst %,$(FUZZ_B)/%,$(FUZZERS))
	@tests/fuzz/run $(FUZZ_B) $(TIME) $(FUZZERS)
fuzz-coverage:
	@$(MAKE) COVERAGE=1 $(patsubst %,build/fuzz-coverage/%,$(FUZZERS))
	@tests/fuzz/coverage build/fuzz-coverage $(FUZZERS)

# ---- runners of packet fixtures, and of ports in namespaces: tests/bpf/run_*.c ----
BPF_RUNNERS := $(patsubst tests/bpf/%.c,$(B)/bpf/%,$(wildcard tests/bpf/run_*.c))
$(B)/bpf/run_%: tests/bpf/run_%.c tests/bpf/runner.h $(B)/lib/port.a
	@mkdir -p $(@D)
	$(call say,TEST,$*)
	$(Q)$(CC) $(CFLAGS) $(DPDK_CFLAGS) -Idataplane $(LDFLAGS) -o $@ $< $(B)/lib/port.a $(DPDK_LIBS) -lbpf

# ---- the lab's own programs: a bad wire, a generator of sessions and floods ----
LABS      := $(patsubst tests/lab/%.c,$(B)/lab/%,$(wildcard tests/lab/impair.c tests/lab/flood.c))
$(B)/lab/%: tests/lab/%.c
	@mkdir -p $(@D)
	$(call say,LAB,$*)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $<

# ---- benches: load and sink, and in-process ones in tests/bench/micro (each over all stages) ----
MICROS    := $(patsubst tests/bench/micro/%.c,$(B)/bench/micro/%,$(wildcard tests/bench/micro/*.c))
$(B)/bench/load $(B)/bench/sink: $(B)/bench/%: tests/bench/%.c tests/bench/wire.h
	@mkdir -p $(@D)
	$(call say,BENCH,$*)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $< -lssl -lcrypto
$(B)/bench/micro/%: tests/bench/micro/%.c $(wildcard tests/bench/micro/*.h) $(B)/lib/worker.a $(B)/lib/control_policy.a $(call stage_lib,$(STAGES))
	@mkdir -p $(@D)
	$(call say,BENCH,$*)
	$(Q)$(CC) $(CFLAGS) $(DPDK_CFLAGS) -Idataplane -Icontrol -I. $(LDFLAGS) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(DPDK_LIBS) -lrte_net_ring -lbpf -lssl -lcrypto -ljansson -lxxhash -lbsd -linih -lcmocka -lpthread
.PHONY: bench bench-micro bench-setup
bench-setup:
	@deploy/setup bench
bench: bench-setup
	@$(MAKE) all $(MICROS) $(B)/bench/load $(B)/bench/sink
	@tests/bench/bench
bench-micro: $(MICROS) $(B)/bpf/classify.xdp.o $(B)/bpf/classify.dpdk.o
	@set -e; for m in $(MICROS); do echo "== $$m"; $$m $(B)/bpf; done

# ---- the rest of the tests ----
.PHONY: golden bpf-test e2e e2e-sanitize soak lint test demo lab lab-down ci
golden: $(B)/golden/dialogue
	@WAXSEAL_BUILD=$(B) $(PYTHON) -m pytest -q tests/golden
$(B)/golden/dialogue: tests/golden/dialogue.c $(B)/lib/smtp.a
	@mkdir -p $(@D)
	$(call say,GOLDEN,$@)
	$(Q)$(CC) $(CFLAGS) -Idataplane $(LDFLAGS) -o $@ $^
bpf-test: all setup $(BPF_RUNNERS)
	@$(PYTHON) -m pytest -q tests/bpf
# BESIDE=2: in two labs beside each other; BESIDE=1: one after another, without namespaces around it
BESIDE    := 1
e2e: all $(LABS) setup
	@PYTHON=$(PYTHON) tests/e2e/beside $(BESIDE)
e2e-sanitize: setup
	@$(MAKE) SANITIZER=address,undefined all
	@WAXSEAL_BUILD=build/sanitize PYTHON=$(PYTHON) tests/e2e/beside $(BESIDE) -m sanitize
# PARTS: loss flows listing sessions edits
soak: all $(LABS) setup
	@$(MAKE) SANITIZER=address,undefined all
	@tests/soak/soak $(PARTS)
lint:
	@deploy/lint
setup:
	@deploy/setup
demo: setup
	@$(MAKE) all
	@tests/lab/demo
test: setup
	@tests/run
lab: setup
	@$(MAKE) all
	@tests/lab/lab up
lab-down:
	@tests/lab/lab down

.PHONY: format
format:
	$(Q)clang-format -i $$(git ls-files '*.c' '*.h')

.PHONY: install
install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/waxseal $(DESTDIR)$(SYSCONF)/waxseal $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)/var/lib/waxseal
	install -m 755 $(B)/waxseald $(B)/waxseal-agent $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(B)/waxseal $(DESTDIR)$(PREFIX)/bin/
	install -m 644 $(B)/bpf/classify.xdp.o $(B)/bpf/classify.dpdk.o $(DESTDIR)$(PREFIX)/lib/waxseal/
	install -m 644 deploy/waxseal.conf $(DESTDIR)$(SYSCONF)/waxseal/waxseal.conf.sample
	install -m 644 deploy/*.service $(DESTDIR)$(PREFIX)/lib/systemd/system/
	install -m 644 control/cli/waxseal.bash-completion $(DESTDIR)$(PREFIX)/share/bash-completion/completions/waxseal

clean:
	rm -rf build

-include $(shell find $(B)/obj $(FUZZ_B)/obj -name '*.d' 2>/dev/null) $(wildcard $(B)/unit/*.d $(B)/evasion/*.d $(B)/sim/*.d)
