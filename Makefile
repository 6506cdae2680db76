# Everything a contributor needs; `make` alone prints the list. Needs make and Python >= 3.11 with venv.

VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

# The newest Python that runs: a name on PATH may be a shim for a version that isn't there.
# Looked up only when .venv is made.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& { echo "$$name"; break; }; done)

# uv installs where it runs, else pip; the Python is the machine's own either way.
export UV_PYTHON_DOWNLOADS = never
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# Tests are compiled once and not at each run, also where a container switches that off.
unexport PYTHONDONTWRITEBYTECODE

# pytest ends with 5 where no test was selected.
MAY_BE_EMPTY = $(if $(ARGS),|| [ $$? -eq 5 ])

.DEFAULT_GOAL := help
.PHONY: help serve test test-full fast check bench bench-gate requirements lock

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-18s %s\n", $$1, $$2}'

serve: $(STAMP) ## the example app on https://localhost:8443, reloaded when a file changes
	$(BIN)/thebes dev main:app --app-dir examples/notes

# Three at a time, as most of a test is waiting; then those that compare times. ARGS may leave a part empty.
test: $(STAMP) ## all tests (installs Chromium where apt and root are there)
	@$(BIN)/python tools/system_packages.py chromium slowhttptest
	$(BIN)/pytest -n 3 --dist loadfile -m "not full and not alone" $(ARGS) $(MAY_BE_EMPTY)
	$(BIN)/pytest -m "alone and not full" $(ARGS) $(MAY_BE_EMPTY)

test-full: $(STAMP) ## all tests with the counts of a release: long
	@$(BIN)/python tools/system_packages.py chromium slowhttptest
	THEBES_TEST_COUNTS=full $(BIN)/pytest $(ARGS)

fast: $(STAMP) ## the quick tests, for while you work
	THEBES_TEST_COUNTS=few $(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not browser and not full" $(ARGS)

check: $(STAMP) ## format, lint, types, floors, sizes
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/mypy --strict tools
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/sizes.py

bench: $(STAMP) ## what protection costs
	$(BIN)/python bench/overhead.py $(ARGS)
	$(BIN)/python bench/https.py $(ARGS)
	$(BIN)/python bench/limits.py $(ARGS)
	$(BIN)/python bench/sessions.py $(ARGS)

bench-gate: $(STAMP) ## instructions of the pass against those accepted (installs valgrind like Chromium)
	@$(BIN)/python tools/system_packages.py valgrind
	$(BIN)/python bench/gate.py $(ARGS)

requirements: $(STAMP) ## all tests, then which requirements they prove (ARGS=-v: by what)
	@$(BIN)/python tools/system_packages.py chromium slowhttptest
	$(BIN)/pytest -m "not full" --requirements $(ARGS)

lock: ## resolve the development dependencies again into requirements-dev.lock (needs uv)
	@uv --version >/dev/null 2>&1 || { echo "make lock needs uv" >&2; exit 1; }
	uv lock --upgrade
	uv export --quiet --no-annotate --no-emit-project --no-header -o requirements-dev.lock
	@! grep -n '://' requirements-dev.lock || { echo "the lock names a host" >&2; exit 1; }

# Everything hash-pinned, then the project itself, editable. Made again when its inputs change.
$(STAMP): requirements-dev.lock pyproject.toml
	@$(BIN)/python -c "" 2>/dev/null || test -n "$(PYTHON)" || { echo "$$NO_PYTHON" >&2; exit 1; }
	@if uv --version >/dev/null 2>&1; then $(WITH_UV); else $(WITH_PIP); fi
	@touch $(STAMP)

export NO_PYTHON = no Python 3.11 or newer runs here: install one, or name it with make PYTHON=...
WITH_UV = set -ex; \
	$(BIN)/python -c "" 2>/dev/null || uv venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV); \
	uv pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.lock; \
	uv pip install --quiet --python $(BIN)/python --no-deps --editable .
WITH_PIP = set -ex; \
	$(BIN)/python -c "" 2>/dev/null || $(PYTHON) -m venv --clear $(VENV); \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip; \
	$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements-dev.lock; \
	$(BIN)/python -m pip install --quiet --no-deps --editable .
