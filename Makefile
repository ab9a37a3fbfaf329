# Two commands need nothing but python3 (>= 3.11), gcc and make:
#   make demo    the main job end to end on an embedded database, and a picture of it
#   make test    install what is needed and run the tests
# The rest is for development. Everything lives in $(VENV).

VENV ?= .venv
BIN := $(VENV)/bin
NATIVE := $(wildcard ddstore/_native/core/*.[ch] ddstore/_native/python/*.[ch])
DATA ?=
PG_CONFIG ?=

.PHONY: demo test lint format fuzz extension bench-ratio bench-roundtrip bench-sql bench-ingest bench-bound bench-ablation clean

demo: $(VENV)/.installed
	$(BIN)/ddstore demo $(DATA) --out demo.png

test: $(VENV)/.installed
	$(BIN)/pytest

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Ten minutes for each decoder, with clang; what fails is told and kept: see tools/fuzz.
fuzz:
	tools/fuzz --seconds 600

# Build the PostgreSQL extension against a server: make extension PG_CONFIG=/usr/lib/postgresql/16/bin/pg_config
extension: $(VENV)/.installed
	$(BIN)/ddstore extension install --pg-config $(or $(PG_CONFIG),$(shell command -v pg_config))

bench-ratio bench-roundtrip bench-sql bench-ingest bench-bound bench-ablation: bench-%: $(VENV)/.bench
	$(BIN)/python -m benchmarks.$*

$(VENV)/.installed: pyproject.toml constraints.txt CMakeLists.txt tools/make-venv $(NATIVE)
	tools/make-venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

# The peers that benchmarks run beside us.
$(VENV)/.bench: $(VENV)/.installed tools/install-peers
	tools/install-peers $(BIN)/pip
	touch $@

clean:
	rm -rf $(VENV) build dist demo.png ddstore/_native/*.so
