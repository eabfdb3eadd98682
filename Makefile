# Everything that is needed is Python 3.11 or newer with venv, git and make.
PYTHON ?= python3
# Tests at once: half of their time is waiting.
WORKERS ?= 4
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test fix dist clean

demo: $(VENV)/.runtime
	@$(BIN)/telefonistka demo $(DEMO)

test: $(VENV)/.tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST)

fix: $(VENV)/.tests
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The wheel, the source and what they consist of; the same commit gives the same bytes.
dist: $(VENV)/.tests
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/hatchling build --clean
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python .ci/sbom.py dist/*.whl requirements.txt

clean:
	rm -rf $(VENV)

$(VENV)/.runtime: requirements.txt pyproject.toml
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.tests: $(VENV)/.runtime tests/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/requirements.txt
	@touch $@
