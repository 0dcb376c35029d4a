# The course's commands. Each sets up what it needs in .venv, once; `make help` lists them.
PYTHON ?= python3
VENV   := .venv
CONSTRAINTS ?= constraints.txt
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check -q

.DEFAULT_GOAL := help
.PHONY: help run lab test test-slow docs docs-serve bench notebooks export clean

# The site needs npm. Where there is none, `make test` leaves the browser out and says so.
SITE := $(VENV)/ok-docs docs/node_modules/ok

help:        ## list the commands
	@grep -E '^[a-z-]+: .*##' Makefile | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 18

run: $(VENV)/ok-run    ## train a DDPM on real images (5 minutes on two cores), draw with it and measure it; goes on where it was stopped
	@$(PY) -m ddpm_course.cli train quickstart

lab: $(VENV)/ok-dev    ## open the course in JupyterLab
	@$(PY) -m jupyterlab --notebook-dir=nbs $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB)

test: $(VENV)/ok-dev $(if $(shell command -v npm),$(SITE)) ## run every check, as CI does (ten minutes)
	$(PY) tools/check_sync.py
	$(PY) -m ruff check .
	$(PY) tools/test_notebooks.py
	$(PY) -m pytest -q tests

test-slow: $(VENV)/ok-dev ## what takes long: training killed a hundred times (seven minutes)
	KILLS=100 $(PY) -m pytest -q -s tests/test_training.py -k killed

docs: $(SITE)          ## build the documentation site into build/html (half a minute; nothing is executed)
	@$(PY) docs/build.py

docs-serve: docs       ## show the site on http://127.0.0.1:8000 (PORT=… for another)
	@echo "http://127.0.0.1:$(or $(PORT),8000)/ (Ctrl+C ends it)"
	@$(PY) -m http.server --bind 127.0.0.1 -d build/html $(or $(PORT),8000) 2>/dev/null

bench: $(VENV)/ok-bench ## measure speed beside other libraries (2 minutes, on a machine that does nothing else)
	$(PY) tools/run_notebooks.py --print nbs/95_benchmarks.ipynb

notebooks: $(VENV)/ok-bench ## run chapters top to bottom in fresh kernels and store their outputs (NB=nbs/02_toy.ipynb for one)
	$(PY) tools/run_notebooks.py $(NB)

export: $(VENV)/ok-dev ## write ddpm_course/ and README.md from the notebooks
	$(PY) tools/colab.py
	$(VENV)/bin/nbdev_export
	$(VENV)/bin/nbdev_clean
	$(PY) tools/readme.py

clean:       ## remove what the commands made: .venv, build, runs
	rm -rf $(VENV) build dist docs/node_modules *.egg-info runs .pytest_cache .ruff_cache

# A stamp file says that an installation is complete; it is made again when what it depends on changes.
$(PY):
	@echo "Setting up $(VENV): a few GB and a few minutes, once."
	@$(PYTHON) -c 'import sys; v = sys.version.split()[0]; sys.version_info >= (3, 11) or sys.exit(f"ddpm_course needs Python 3.11 or newer, and this is {v}: make PYTHON=/path/to/python3.11 …")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "python3 could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/ok-run: settings.ini setup.py $(CONSTRAINTS) | $(PY)
	@$(PIP) install -c $(CONSTRAINTS) -e .
	@touch $@

$(VENV)/ok-dev: settings.ini setup.py $(CONSTRAINTS) | $(PY)
	@$(PIP) install -c $(CONSTRAINTS) -e '.[dev]'
	@touch $(VENV)/ok-run $@

$(VENV)/ok-bench: $(VENV)/ok-dev
	@$(PIP) install -c $(CONSTRAINTS) -e '.[dev,bench]'
	@touch $@

# What the site is built with, without the course's own requirements: it reads the notebooks and the library, and imports neither.
$(VENV)/ok-docs: settings.ini $(CONSTRAINTS) | $(PY)
	@sed -n 's/^docs_requirements = //p' settings.ini | tr ' ' '\n' > $(VENV)/docs.txt
	@$(PIP) install -c $(CONSTRAINTS) -r $(VENV)/docs.txt
	@touch $@

docs/node_modules/ok: docs/package.json docs/package-lock.json
	@command -v npm >/dev/null || { echo "The site needs Node.js with npm (18 or newer): https://nodejs.org, or on Debian and Ubuntu: apt install npm"; exit 1; }
	@npm ci --prefix docs --silent
	@touch $@
