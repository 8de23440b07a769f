# The interpreter of a new .venv: Python 3.10, 3.11 or 3.12.
PYTHON ?= python3.11
# More arguments for pytest, e.g. ARGS='-k motion'.
ARGS ?=
# The detector of `make demo`: random, or i3d (see tools/get_detectors.py).
DETECTOR ?= random
# Processes that share the tests; each takes a core and up to 3 GB of memory.
WORKERS ?= 2

REQUIREMENTS := requirements/install.sh $(wildcard requirements/*.txt)
# The install that exists: either one will do for `make demo`.
INSTALLED := $(firstword $(wildcard .venv/.full) .venv/.quick)
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest \
  -n $(WORKERS) --dist worksteal

# Shells that forbid compiled modules would make each process of the tests
# compile ours again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test coverage lint types format docs gpu-check clean distclean
.DELETE_ON_ERROR:

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12
	@echo
	@echo 'PYTHON=python3.12 chooses another interpreter (3.10 to 3.12).'

demo: $(INSTALLED)  ## Train on moving shapes, measure and sample (minutes)
	.venv/bin/python tools/demo.py --detector $(DETECTOR)

test: .venv/.full  ## Compile mmcv where needed, then run all tests
	$(PYTEST) $(ARGS)

coverage: .venv/.full  ## Run all tests and list the lines that none reaches
	$(PYTEST) --cov --cov-report=term-missing:skip-covered $(ARGS)

lint: .venv/.lint  ## Check style, format and spelling
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/codespell

types: .venv/.full .venv/.lint  ## Check type hints
	.venv/bin/mypy

format: .venv/.lint  ## Fix style and format
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: .venv/.docs  ## Build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

gpu-check: .venv/.full  ## Check and measure everything on a GPU (minutes)
	.venv/bin/python tools/analysis_tools/check_install.py
	STYLEGAN_V_FIGURES=gpu_figures.json .venv/bin/python -m pytest -v -m gpu

clean:  ## Remove the files that builds and tests leave behind
	rm -rf build dist *.egg-info .coverage* .mypy_cache .nox .pytest_cache \
	  .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -print0 | xargs -0 rm -rf

distclean: clean  ## Also remove .venv
	rm -rf .venv

.venv/.lint .venv/.docs .venv/.quick .venv/.full: .venv/.%: $(REQUIREMENTS)
	@PYTHON='$(PYTHON)' requirements/install.sh $*
