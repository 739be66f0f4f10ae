# The two commands of the README:
#   make demo    the whole chain on embedded defaults: a table, a picture and a summary.json
#   make test    ruff, mypy on what the wheel ships, pytest
# Each creates $(VENV) when it is missing and installs what it needs. The rest: make lint | types | wheel | clean.

PYTHON ?= python3
VENV   ?= .venv
# What is tested: the editable tree for a developer; .ci/run gives EDITABLE= PACKAGE=dist/<the wheel>.
EDITABLE ?= -e
PACKAGE  ?= .
# One environment apart for gym-pusht, whose pymunk pin is older than ours: the physics tests step both.
GYM_PUSHT_VENV ?= .venv-gym-pusht
WORKERS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=

PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
# Each pytest worker has one core: more threads than cores make torch slower, not faster.
ONE_THREAD = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: demo test lint types pytest wheel environment clean

demo: $(VENV)/.installed
	$(VENV)/bin/sim2real-aug demo $(DEMO_ARGS)

test: lint types pytest

# torch first: its CPU build may come from an index of its own, and everything else depends on it.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sim2real-aug needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q $$(grep '^torch==' constraints.txt)
	$(PIP) install -q -c constraints.txt $(EDITABLE) $(PACKAGE)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt $(EDITABLE) "$(PACKAGE)[test]"
	@touch $@

$(GYM_PUSHT_VENV)/.installed:
	test -x $(GYM_PUSHT_VENV)/bin/python || $(PYTHON) -m venv $(GYM_PUSHT_VENV)
	$(GYM_PUSHT_VENV)/bin/python -m pip --disable-pip-version-check install -q "gym-pusht==0.1.8" "pymunk<7"
	@touch $@

environment: $(VENV)/.installed-test $(GYM_PUSHT_VENV)/.installed

lint: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .

# mypy sees the mapped folders (envs/, policies/, configs/) only as they are installed.
types: $(VENV)/.installed-test
	rm -rf build/lib build/bdist.* build/check
	$(PIP) install -q --no-deps --no-compile --target build/check $(PACKAGE)
	cd build/check && ../../$(VENV)/bin/mypy --config-file ../../pyproject.toml -p sim2real_aug

# The pytest script, not `python -m pytest`: that would put the checkout before the installed package.
pytest: environment
	$(ONE_THREAD) $(VENV)/bin/pytest -n $(WORKERS) $(PYTEST_ARGS)

wheel: $(VENV)/.installed
	rm -rf build/lib build/bdist.* dist
	$(PIP) wheel -q --no-deps --wheel-dir dist .
	@ls -l dist

clean:
	rm -rf build dist *.egg-info
