PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
BIN := .venv/bin

.PHONY: demo test lint check bench faults schema clients

demo: .venv/installed
	$(BIN)/lomas-gql demo --host $(HOST) --port $(PORT)

test: .venv/installed clients
	$(BIN)/python -m pytest

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: .venv/installed
	$(BIN)/python benchmarks/small_query.py
	$(BIN)/python benchmarks/hostile.py
	$(BIN)/python benchmarks/smartnoise_sql.py
	$(BIN)/python benchmarks/ledger.py

# Servers and databases killed in large numbers: 15 minutes on two idle cores.
faults: .venv/installed
	$(BIN)/python -m benchmarks.faults

# The tests' JavaScript clients, where npm is.
clients:
	@if command -v npm > /dev/null; then npm ci --silent --no-audit --no-fund --prefix tests/clients; fi

schema: .venv/installed
	$(BIN)/python -c "from lomas_gql.schema.schema import printed; print(printed(), end='')" > schema.graphql

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
