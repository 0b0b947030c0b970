# `make quickstart` and `make test` work in a fresh clone with Python 3.11 to 3.14 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Whatever is built is built with what the lock names too.
INSTALL := $(PIP) install --constraint $(LOCK) --no-build-isolation

.PHONY: quickstart test check format lock test-oldest test-newest clean

quickstart: $(VENV)/.installed
	$(BIN)/gpg-vl quickstart

test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml $(LOCK)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit( \
	  0 if (3, 11) <= v <= (3, 14) else "$(PYTHON) is %d.%d, and 3.11 to 3.14 is needed: make PYTHON=python3.12" % v)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing torch, transformers and the rest into $(VENV): 3 to 10 minutes, 6 GB on Linux"
	@$(INSTALL) setuptools
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(INSTALL) --editable ".[dev]"
	@touch $@

# The newest versions that pyproject.toml admits, for every supported Python and platform.
lock: $(VENV)/.installed-dev
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --all-extras --python-version 3.11 \
	  --no-annotate --custom-compile-command "make lock" --output-file $(LOCK)

# Both ends of the range of versions, each in an environment of its own: docs/compatibility.md.
test-oldest: RESOLUTION := lowest-direct
test-oldest: SUITES := tests/unit tests/invariant
test-newest: RESOLUTION := highest
test-newest: SUITES := tests
test-oldest test-newest: test-%: $(VENV)/.installed-dev
	$(BIN)/uv venv --quiet --clear --seed --python $(BIN)/python $(VENV)-$*
	$(BIN)/uv pip install --quiet --python $(VENV)-$* --resolution $(RESOLUTION) --editable ".[dev]"
	$(VENV)-$*/bin/gpg-vl env
	$(VENV)-$*/bin/python -m pytest $(SUITES)

clean:
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info
