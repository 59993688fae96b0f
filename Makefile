# make demo   train a small policy, then fit two networks on real data and compare
# make test   lint, types, tests and doctests
# Both create .venv with the versions of constraints.txt, once. Needed beforehand: Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# More than one intra-op thread makes small networks many times slower.
export OMP_NUM_THREADS := 1

.PHONY: demo test docs trace ablation compatibility screenshots lint types bench install clean
.DEFAULT_GOAL := test

demo: $(INSTALLED)
	$(BIN)/rl-lr demo

test: lint types
	$(BIN)/pytest --doctest-modules --pyargs rl_lr
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --compatibility=.compatibility.md
	diff docs/compatibility.md .compatibility.md

# These pages as a site, in site/index.html. The tests build it too.
docs: $(INSTALLED)
	$(BIN)/sphinx-build -W --keep-going -q docs site

# The run that docs/how-it-decides.md explains, made again; needed after another policy ships.
trace: $(INSTALLED)
	$(BIN)/python docs/trace.py

# What each signal is worth to the policy, on docs/how-it-decides.md (45 tasks took 41 minutes of two cores); needed then too.
ablation: $(INSTALLED)
	$(BIN)/python docs/ablation.py

# The table of what was tested with what, from the results of the tests.
compatibility: $(INSTALLED)
	$(BIN)/pytest -m compatibility --compatibility=docs/compatibility.md

# The pictures of docs/tensorboard.md, taken by the tests of the browser; needs Chromium and its driver.
screenshots: $(INSTALLED)
	CI=true $(BIN)/pytest tests/test_browser.py --screenshots=docs/board

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/rl-lr bench

install: $(INSTALLED)

# The stamp is written last: an interrupted install is taken up again, a finished one is left alone.
$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("rl-lr needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv

# Caches and build leftovers only: what was installed, trained or measured stays.
clean:
	rm -rf build dist site *.egg-info .compatibility.md .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
