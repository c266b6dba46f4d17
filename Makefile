# The commands for working on this project. They need make and Python 3.10 or
# newer (with venv); each target installs what else it needs into .venv.
# "make" alone lists the targets.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN_TESTS ?= $(BIN)/python -m pytest
CRASH_TEST ?= $(BIN)/python -m tests.crash
# How much "make fuzz" sends. FUZZ_SEED=7 makes it send other data.
FUZZ := FUZZ_REQUESTS=100000 FUZZ_ANSWERS=10000 FUZZ_FLOOD_SECONDS=21

# With PGDATABASE set the tests use that database. The caller's own must not be it.
unexport PGDATABASE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help sandbox test test-postgresql test-browser crash-test fuzz mutation-test bench lint messages docs wheel clean

help: ## list the targets
	@echo "make TARGET [ARGS='...']   with one of these targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile \
		| while IFS='|' read -r target text; do printf '  %-16s %s\n' "$$target" "$$text"; done

sandbox: $(VENV)/.installed-sandbox ## run the demo shop with a simulated Bitsby, until Ctrl-C
	@exec $(BIN)/python sandbox/run.py $(ARGS)

test: $(VENV)/.installed-test ## run the tests on SQLite (ARGS='-k webhook' selects some)
	@$(RUN_TESTS) $(ARGS)

test-postgresql: $(VENV)/.installed-test ## run the tests on a temporary PostgreSQL server
	@bash .ci/postgresql run $(RUN_TESTS) $(ARGS)

# Skipped with a message where Chromium is missing. Saves pictures to tests/browser/screenshots/.
test-browser: $(VENV)/.installed-test $(VENV)/.installed-browser ## run the tests in Chromium and take screenshots
	@$(RUN_TESTS) tests/browser --no-migrations $(ARGS)

crash-test: $(VENV)/.installed-test ## kill the shop at every step and check its books, on both databases
	@status=0; $(CRASH_TEST) $(ARGS) || status=$$?; \
		bash .ci/postgresql run $(CRASH_TEST) $(ARGS) || status=$$?; exit $$status

fuzz: $(VENV)/.installed-test ## send 100,000 malformed deliveries and 10,000 malformed API answers
	@$(FUZZ) $(RUN_TESTS) tests/fuzz $(ARGS)

# Works on copies in build/mutation/. docs/mutation.rst explains the results.
mutation-test: $(VENV)/.installed-test $(VENV)/.installed-mutation ## change the code in small ways and see whether a test fails (ARGS=facade)
	@$(BIN)/python -m tests.mutation $(ARGS)

bench: $(VENV)/.installed-bench ## measure speed against the goals and other projects (ARGS='P3 P4' or --quick)
	@bash .ci/postgresql run $(BIN)/python -m bench $(ARGS)

lint: $(VENV)/.installed-dev ## check style, formatting, types and the layers of the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Commit the .po and the .mo files. tests/test_translations.py uses the same options.
messages: $(VENV)/.installed-test ## update and compile the translations (needs GNU gettext)
	@command -v msgmerge >/dev/null || { echo "Please install GNU gettext first (Debian: apt install gettext)."; exit 1; }
	@cd oscar_bitsby && $(abspath $(BIN))/python -m django makemessages \
		--all --no-obsolete --add-location file --ignore 'simulator/*'
	@cd oscar_bitsby && $(abspath $(BIN))/python -m django compilemessages

docs: $(VENV)/.installed-docs ## build the documentation into build/docs
	@$(BIN)/python -m sphinx -W --keep-going -b html $(ARGS) docs build/docs

# The wheel is built from the source archive: a file that is missing there is noticed.
wheel: $(VENV)/.installed-dev ## build the source archive and the wheel into dist/
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .

clean: ## remove .venv and everything that was built or cached
	rm -rf $(VENV) .tox build dist htmlcov .coverage .coverage.* *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A recipe touches its stamp last, so an interrupted installation is repeated.
$(VENV)/.created:
	@echo "Creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# pyproject.toml lists the dependencies; the package states its version.
$(VENV)/.installed-%: $(VENV)/.created pyproject.toml oscar_bitsby/__init__.py
	@echo "Installing the extra '$*' into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[$*]"
	@touch $@
