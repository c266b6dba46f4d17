# What one does with a checkout. Everything is installed into .venv, which the
# targets below make and renew by themselves: Python 3.10 or newer (with venv)
# and make are enough to begin. "make" alone says what there is.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
RUN_TESTS ?= $(BIN)/python -m pytest
CRASH_TEST ?= $(BIN)/python -m tests.crash
# What a long run of the fuzzing tests sends; FUZZ_SEED=7 makes other rubbish.
FUZZ := FUZZ_REQUESTS=100000 FUZZ_ANSWERS=10000 FUZZ_FLOOD_SECONDS=21

# A database named in the caller's environment is not one to run tests in.
unexport PGDATABASE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help sandbox test test-postgresql test-browser crash-test fuzz mutation-test bench lint messages wheel clean

help: ## list the targets
	@echo "make TARGET [ARGS='...']   with one of these targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile \
		| while IFS='|' read -r target text; do printf '  %-16s %s\n' "$$target" "$$text"; done

sandbox: $(VENV)/.installed-sandbox ## run the demo shop with a simulated Bitsby, until Ctrl-C
	@exec $(BIN)/python sandbox/run.py $(ARGS)

test: $(VENV)/.installed-test ## run the tests on SQLite (ARGS='-k webhook' runs some of them)
	@$(RUN_TESTS) $(ARGS)

test-postgresql: $(VENV)/.installed-test ## run the same tests on a PostgreSQL started for them
	@bash .ci/postgresql run $(RUN_TESTS) $(ARGS)

# Where there is no Chromium they are skipped, and say so. Pictures: tests/browser/screenshots/.
test-browser: $(VENV)/.installed-test $(VENV)/.installed-browser ## walk through the shop in Chromium, and take pictures
	@$(RUN_TESTS) tests/browser --no-migrations $(ARGS)

crash-test: $(VENV)/.installed-test ## kill the shop between any two effects, on SQLite and PostgreSQL, and audit it
	@status=0; $(CRASH_TEST) $(ARGS) || status=$$?; \
		bash .ci/postgresql run $(CRASH_TEST) $(ARGS) || status=$$?; exit $$status

fuzz: $(VENV)/.installed-test ## send 100,000 strange deliveries and 10,000 strange answers
	@$(FUZZ) $(RUN_TESTS) tests/fuzz $(ARGS)

# In copies of the project; what is known to survive stands in docs/mutation.md.
mutation-test: $(VENV)/.installed-test $(VENV)/.installed-mutation ## change the code in small ways, each of which a test has to notice
	@$(BIN)/python -m tests.mutation $(ARGS)

bench: $(VENV)/.installed-bench ## measure against the goals and other projects (ARGS='P3 P4', ARGS=--quick)
	@bash .ci/postgresql run $(BIN)/python -m bench $(ARGS)

lint: $(VENV)/.installed-dev ## check style and types: ruff, mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# In Python alone, as Babel comes with Oscar; what is committed is what a shop reads.
messages: $(VENV)/.installed-test ## bring the texts in oscar_bitsby/locale up to the code, and compile them
	@$(BIN)/python -m tests.messages

# By way of the source archive, so that what ships never depends on files lying about.
wheel: $(VENV)/.installed-dev ## build the source archive and the wheel into dist/
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist .

clean: ## remove .venv and all that was built or cached
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* *.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps come last of each recipe: what was interrupted is done again.
$(VENV)/.created:
	@echo "Creating $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# pyproject.toml lists the dependencies and the package states its version.
$(VENV)/.installed-%: $(VENV)/.created pyproject.toml oscar_bitsby/__init__.py
	@echo "Installing what '$*' needs into $(VENV)"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[$*]"
	@touch $@
