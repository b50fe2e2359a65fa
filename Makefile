# SPDX-License-Identifier: GPL-3.0-or-later
# One obvious way to do each thing. Needs a Debian 12 machine, root, and what requirements/debian.txt lists
# (`make setup` installs it); `make build` needs none of these.
PYTHON = .cache/venv/bin/python
SYSTEM_PYTHON ?= /usr/bin/python3
PYTEST = $(PYTHON) -m pytest -q
RUN_TESTS = $(PYTHON) tools/run_tests.py
PIP_INSTALL = pip -q install --disable-pip-version-check --require-hashes
STAMP = .cache/setup-$(shell cd requirements && cat debian.txt python.txt target-python.txt | sha256sum | cut -c1-16)
BENCH_STAMP = $(STAMP)-bench
BUILD_STAMP = .cache/build-$(shell cd requirements && cat build.txt | sha256sum | cut -c1-16)
DOCS_STAMP = .cache/docs-$(shell cd requirements && cat docs.txt | sha256sum | cut -c1-16)
LINT_STAMP = $(STAMP)-lint-$(shell cd requirements && cat lint.txt lint-debian.txt | sha256sum | cut -c1-16)

help:
	@echo "make test              what is proven, one of each kind, and a slice of the rest: half an hour. T=tests/unit/core/test_guard.py: one file"
	@echo "make test-unit         pure logic, bad input: 20 seconds. test-system: with real nftables, openssl, ...; test-sim: the simulator"
	@echo "make test-lab          the plays on systemd hosts: demo, chaos, refusals, ...; T=day2: one topic"
	@echo "make test-all          everything; test-native, test-integration, test-rdma, test-molecule, test-bench: one kind, T= one topic"
	@echo "make test-engines      the main job, disks and a switchover on several QEMUs: build/engines/result.json; 12 minutes"
	@echo "make test-list         the pieces of all that: what each stage proves, and what it costs"
	@echo "make sim               SEEDS=10000: the core under simulated faults; SEED=k replays one, with its trace"
	@echo "make sim-mutants       the same with the core broken on purpose: each variant must be caught"
	@echo "make fuzz              MINUTES=5 TARGET=\"wire settings\": each decoder with bytes of chance, two processes; crashes become cases"
	@echo "make lint              all quality gates, or GATES='ruff sanity': ansible-lint, ansible-test sanity, mypy, docs, changelog, licences"
	@echo "make release           KEY=FINGERPRINT: tarball, bill of materials and signatures in build/release; docs/release.md"
	@echo "make requirements      requirements/*.txt from *.in: each package pinned, with its hashes; OPTIONS=--upgrade: newer ones"
	@echo "make docs | changelog  what is generated in docs/: reference/, settings.md, the phases in syncvm.md; CHANGELOG.rst from its fragments"
	@echo "make docs-site         the documents as a site in build/docs-site/html, without a dead link; 1 minute"
	@echo "make demo              the main job, shown: a host dies, nothing is lost"
	@echo "make demo-disk         the same with PostgreSQL on a disk; every commit and the disks are checked"
	@echo "make demo-vm           a Debian with GRUB, imported from a libvirt XML: downloads and an SSH session outlive its host; 6 minutes"
	@echo "make demo-operate      what an operator sees of it: alerts, the web page, a hook; build/demo-operate/result.json, screenshots; 6 minutes"
	@echo "make recording         a terminal session with a failover, recorded anew: docs/session.cast, docs/session.svg; 2 minutes"
	@echo "make chaos             real faults on three hosts: ROUNDS=60 SEED=1 FAULT= ROLE= DISK=; a table at the end"
	@echo "make attack            what outsiders, guests, a bad witness and others can do to the deployed lab; A=NAME: one attack, or one attacker's"
	@echo "make soak              MINUTES=60: clients, switchovers, failovers; memory, descriptors, journal: build/soak/soak.html, result.json"
	@echo "make up | down         three hosts on this machine with a protected VM, deployed by the play"
	@echo "make bench-consensus   commits/s and latency beside etcd and PySyncObj; a table, and build/bench/consensus.json"
	@echo "make bench-services    a service without protection, with Plover, checkpoints, COLO: build/bench/services.json; 45 minutes"
	@echo "make bench-hash        page hashing beside the cityhash package and the memory's speed; a table, build/bench/hash.json"
	@echo "make bench-ablation    what each part of a syncvm is worth, and latency_ms_target: build/bench/{ablation,targets}/; 12 minutes"
	@echo "make bench-disk-link   a secondary's disk by NBD, directly and through the members' link: build/bench/disk_link.json; 3 minutes"
	@echo "make bench-scale       a syncvm's cost by guest RAM, dirty pages and vCPUs; build/bench/scale.json, scale.html; 3 minutes"
	@echo "make bench-input       frames/s and latency of the input and output path, no guest: build/bench/input.json; 5 minutes"
	@echo "make bench-links       links with TLS beside links without, over loopback: build/bench/links.json; 2 minutes"
	@echo "make bench-rdma        commits and page transfer over Soft-RoCE beside perftest, in two guests: build/bench/rdma.json; 2 minutes"
	@echo "make bench-deploy      the play on three fresh hosts, twice; what takes longest: build/bench/deploy.json; 1 minute"
	@echo "make build             the collection's tarball in build/; needs Python alone, no root, and no Debian"
	@echo "make setup | native | clean"

setup: $(STAMP)

$(STAMP): requirements/debian.txt requirements/python.txt requirements/target-python.txt
	@dpkg -s $$(cat requirements/debian.txt) >/dev/null 2>&1 || \
	  { echo "installing Debian packages (about a minute)"; apt-get -qq update && \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$(cat requirements/debian.txt) >/dev/null; }
	@test -e /var/lib/apt/lists/lock || apt-get -qq update
	@echo "making the virtual environment (about half a minute)"
	@test -x .cache/venv/bin/pip || $(SYSTEM_PYTHON) -m venv .cache/venv
	@.cache/venv/bin/$(PIP_INSTALL) -r requirements/python.txt
	@rm -f .cache/setup-*; touch $@

native: setup
	@$(MAKE) -s -C native

# What the pieces need is made first, once: they run two at a time.
ready: native built $(LINT_STAMP)
	@$(MAKE) -s -C native rdma

ifdef T
test: native
	$(PYTEST) $(T)
else
test:
	@began=$$(date +%s) && $(MAKE) -s ready && $(RUN_TESTS) --began $$began
endif

test-all:
	@began=$$(date +%s) && $(MAKE) -s ready && $(RUN_TESTS) --began $$began --all

# test-lab, test-molecule, ...: all pieces of one stage, or T="day2 secrets".
test-%: ready
	@$(RUN_TESTS) --stage $* --only "$(T)"

test-list: setup
	@$(RUN_TESTS) --list

# Two workers more than cores, as some tests wait; each costs two seconds of CPU before its first test. The compiled tests are kept,
# whatever the environment says: compiling is half of a worker's start. Properties get a part of their examples here; `make test`
# has all.
test-unit: native
	env -u PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX="$(CURDIR)/.cache/pycache" PLOVER_EXAMPLES_PART=4 \
	    $(PYTEST) -n $$((2 + $$(nproc))) --dist worksteal -p no:pytest11.testinfra -o faulthandler_timeout=0 tests/unit

# The core under a seed's faults. PYTHONHASHSEED: a trace is then the same to the letter.
sim: setup
ifdef SEED
	@PYTHONHASHSEED=0 $(PYTHON) -m tests.sim --seed $(SEED)
else
	@PYTHONHASHSEED=0 $(PYTHON) -u -m tests.sim $(or $(SEEDS),10000)
endif

sim-mutants: setup
	@PYTHONHASHSEED=0 $(PYTHON) -u -m tests.sim.mutants

# Two processes; new inputs and crashes are kept as files in tests/fuzz.
fuzz: native
	@PYTHONHASHSEED=0 $(PYTHON) -m tests.fuzz --seconds $$((60 * $(or $(MINUTES),5))) --jobs 2 --keep --target "$(TARGET)" $(if $(SEED),--seed $(SEED))

bench: bench-consensus bench-disk-link bench-hash bench-input bench-links bench-scale bench-services

bench-ablation: native
	@$(PYTHON) -m bench.services --systems interval,interval-drained,idle,idle-drained,plover,stored \
	  --workloads redis-set-p1,redis-set-p16,web-shop --vcpus 1 --mbit-per-s 1000 --out build/bench/ablation $(BENCH_OPTIONS)
	@$(PYTHON) -m bench.services --systems target-10ms,target-20ms,target-50ms,target-100ms,target-200ms \
	  --workloads redis-set-p16,web-shop --vcpus 1 --mbit-per-s 1000 --out build/bench/targets $(BENCH_OPTIONS)

bench-services: native
	@$(PYTHON) -m bench.services $(BENCH_OPTIONS)

bench-disk-link: setup
	@$(PYTHON) -m bench.disk_link $(BENCH_OPTIONS)

bench-input: native
	@$(PYTHON) -m bench.input_path $(BENCH_OPTIONS)

bench-links: native
	@$(PYTHON) -m bench.links $(BENCH_OPTIONS)

bench-scale: native
	@$(PYTHON) -m bench.scale $(BENCH_OPTIONS)

bench-consensus: $(BENCH_STAMP)
	@$(PYTHON) -m bench.consensus $(BENCH_OPTIONS)

bench-rdma: native
	@$(MAKE) -s -C native bench-rdma
	@$(PYTHON) -m bench.rdma $(BENCH_OPTIONS)

bench-deploy: built
	@$(PYTHON) -m bench.deploy $(BENCH_OPTIONS)

bench-hash: native
	@$(MAKE) -s -C native bench
	@$(PYTHON) -m bench.hash $(BENCH_OPTIONS)

# Not isolated: pip would fetch what it builds with by itself, without hashes.
$(BENCH_STAMP): $(STAMP) requirements/bench-build.txt requirements/bench-python.txt
	@.cache/venv/bin/$(PIP_INSTALL) -r requirements/bench-build.txt
	@.cache/venv/bin/$(PIP_INSTALL) --use-pep517 --no-build-isolation -r requirements/bench-python.txt
	@touch $@

# Needs Python and make, and neither root nor a Debian: with `make setup` its environment, without it a small one.
build: $(if $(wildcard $(STAMP)),,$(BUILD_STAMP))
	@.cache/$(if $(wildcard $(STAMP)),venv,venv-build)/bin/python tools/build_collection.py

$(BUILD_STAMP): requirements/build.txt
	@test -x .cache/venv-build/bin/pip || $(SYSTEM_PYTHON) -m venv .cache/venv-build
	@.cache/venv-build/bin/$(PIP_INSTALL) -r requirements/build.txt
	@rm -f .cache/build-*; touch $@

# For what runs the play on this machine.
built: setup
	@$(MAKE) -s build

# The signed tarball and its bill of materials; docs/release.md.
release: setup
	@$(PYTHON) tools/release.py $(KEY)

up: built
	@$(PYTHON) -m lab.up

demo: built
	@$(PYTHON) -m lab.demo

demo-disk: built
	@$(PYTHON) -m lab.demo_disk

demo-vm: built
	@$(PYTHON) -m lab.demo_vm

demo-operate: built
	@$(PYTHON) -m lab.demo_operate

recording: built
	@$(PYTHON) -m lab.record

chaos: built
	@$(PYTHON) -m lab.chaos --rounds "$(or $(ROUNDS),60)" --seed "$(or $(SEED),1)" --fault "$(FAULT)" --role "$(ROLE)" $(if $(DISK),--disk)

attack: built
	@$(PYTHON) -m lab.attack --attack "$(A)"

soak: built
	@$(PYTHON) -m lab.soak --minutes "$(or $(MINUTES),60)"

down:
	@/usr/bin/python3 -m lab down

lint: built $(LINT_STAMP)
	@$(PYTHON) tools/lint.py $(GATES)

# Python as `make lint` wants it.
format: $(LINT_STAMP)
	@.cache/venv-lint/bin/ruff check -q --fix . ; .cache/venv-lint/bin/ruff format -q .

docs: built $(LINT_STAMP)
	@$(PYTHON) tools/draw_settings.py
	@$(PYTHON) tools/draw_phases.py
	@$(PYTHON) tools/lint.py --write-reference

# The documents with the pages of roles and modules, as a site; Sphinx, and then a look at each link.
docs-site: built $(LINT_STAMP)
	@$(MAKE) -s docs-pages

# The same with the collection as it was built before: a piece of the tests, beside others that use it.
docs-pages: $(DOCS_STAMP)
	@$(PYTHON) tools/make_docs_site.py

$(DOCS_STAMP): requirements/docs.txt
	@echo "making the virtual environment of the documents' site (about half a minute)"
	@test -x .cache/venv-docs/bin/pip || $(SYSTEM_PYTHON) -m venv .cache/venv-docs
	@.cache/venv-docs/bin/$(PIP_INSTALL) -r requirements/docs.txt
	@rm -f .cache/docs-*; touch $@

# Takes the fragments in changelogs/fragments/ into the version of galaxy.yml.
changelog: $(LINT_STAMP)
	@PATH="$(CURDIR)/.cache/venv-lint/bin:$$PATH" antsibull-changelog release --update-existing --reload-plugins

$(LINT_STAMP): $(STAMP) requirements/lint.txt requirements/lint-debian.txt
	@dpkg -s $$(cat requirements/lint-debian.txt) >/dev/null 2>&1 || \
	  DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$(cat requirements/lint-debian.txt) >/dev/null
	@echo "making the virtual environment of the quality gates (about half a minute)"
	@test -x .cache/venv-lint/bin/pip || $(SYSTEM_PYTHON) -m venv .cache/venv-lint
	@.cache/venv-lint/bin/$(PIP_INSTALL) -r requirements/lint.txt
	@rm -f .cache/setup-*-lint-*; touch $@

# All packages pinned, with their hashes; OPTIONS=--upgrade takes newer ones.
requirements:
	@test -x .cache/venv-lock/bin/pip || $(SYSTEM_PYTHON) -m venv .cache/venv-lock
	@.cache/venv-lock/bin/$(PIP_INSTALL) -r requirements/lock.txt
	@.cache/venv-lock/bin/python tools/lock_requirements.py $(OPTIONS)

clean:
	rm -rf build .cache native/build

clean: down

.PHONY: help setup native build built ready up demo demo-disk demo-vm demo-operate recording chaos attack soak down test test-all test-list test-unit sim sim-mutants fuzz \
        bench bench-ablation bench-consensus bench-deploy bench-disk-link bench-hash bench-input bench-links bench-rdma bench-scale \
        bench-services lint format docs docs-pages docs-site changelog requirements release clean
