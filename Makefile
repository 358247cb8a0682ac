# Everything from nothing but Python ≥ 3.11, pip and make.
#   make demo   pre-train a teacher, distil a student, export it, on real scans, in minutes
#   make test   lint and the tests; make test-slow the rest of them
#   make docs   the documentation as a site, in build/docs
PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/demo
JOBS ?= 2

# What is installed here computes on the CPU.
export JAX_PLATFORMS ?= cpu

installed := $(VENV)/installed
pytest := $(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: demo docs test test-slow test-benchmarks test-demo lint format clean

demo: $(installed)
	$(VENV)/bin/distill demo --workdir=$(WORKDIR)

test: lint
	$(pytest) -m "not demo and not slow and not benchmark"

# Several processes, eight devices, kills, the TPU's compiler: as long again.
test-slow: $(installed)
	$(pytest) -m slow

# What measures: before figures are published, and whenever benchmarks/ is changed.
test-benchmarks: $(installed)
	$(pytest) -m benchmark

# The demo as a test: minutes long, and it checks the figures the README gives.
test-demo: $(installed)
	$(VENV)/bin/python -m pytest -s -m demo

# With --quiet it would not be strict: warnings that are not shown are not counted. The variable
# leaves out an announcement of the theme's.
docs: $(installed)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	$(VENV)/bin/python -m website.check build/docs

lint: $(installed)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/basedpyright --pythonpath $(VENV)/bin/python

format: $(installed)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

$(installed): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "distill needs Python 3.11 or newer, not " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	# Most of what is installed is never imported, and what is, Python compiles then.
	$(VENV)/bin/python -m pip install --quiet --upgrade --no-compile --constraint constraints.txt --editable '.[dev]'
	# They ask for torchvision, of which there need not be a build for this torch.
	$(VENV)/bin/python -m pip install --quiet --no-compile --constraint constraints.txt --no-deps timm open_clip_torch
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
