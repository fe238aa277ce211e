# Every task of this repository, one word each. `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where tensorflow-datasets keeps its sets, if not at its own default: make zoo DATA_DIR=…
DATA_DIR ?=
# off: `make docs` shows the notebooks without running them
NOTEBOOKS ?= on
export TF_CPP_MIN_LOG_LEVEL ?= 3
data_dir := $(if $(DATA_DIR),--data-dir $(DATA_DIR))

.PHONY: help demo test test-exhaustive test-fast check bench accuracy folding recalibration serving int8 surgery replicas throughput weights zoo claims docs notebooks test-oldest clean

help:  ## list these words
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(VENV)/.lab  ## sketch what batch norm does to two networks on real digits: tables, and figures in demo/
	$(BIN)/bn-keras compare inception_small --quick --seeds 5 --steps 600 --out demo/inception_small --resume
	$(BIN)/bn-keras compare mlp_sigmoid --quick --seeds 5 --steps 1000 --out demo/mlp_sigmoid --resume

# Each test file runs in one process, because its tests share slow set-up and count their random cases. The files run in
# the order of tests/conftest.py.
in_parallel := --numprocesses auto --dist loadfile --no-loadscope-reorder
test: $(VENV)/.dev  ## all tests, in as many processes as there are cores
	$(BIN)/pytest $(in_parallel)

test-exhaustive: $(VENV)/.dev  ## all tests, with the cases that repeat others in every line of code
	$(BIN)/pytest --exhaustive $(in_parallel)

test-fast: $(VENV)/.dev  ## the first case of each quick test, while you edit
	$(BIN)/pytest --fast $(in_parallel)

check: $(VENV)/.dev  ## style and types, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# PyTorch takes part where it is installed. Its usual wheel brings gigabytes for GPUs, so the extra leaves it out.
bench: $(VENV)/.bench  ## measure what is missing in benchmarks/, the layers' speed beside their peers, and write its pages
	$(BIN)/bn-keras bench --rounds 7 --out benchmarks --resume
	$(BIN)/bn-keras page benchmark
	$(BIN)/bn-keras page performance

accuracy: $(VENV)/.bench  ## how exact the layers are beside their peers: docs/accuracy.md
	$(BIN)/bn-keras page accuracy

folding: $(VENV)/.lab  ## known networks, converted and folded: docs/folding.md
	$(BIN)/bn-keras page folding

recalibration: $(VENV)/.lab  ## exact statistics beside moving averages: docs/recalibration.md
	$(BIN)/bn-keras page recalibration

serving: $(VENV)/.serve  ## exported networks where they are served: docs/serving.md
	$(BIN)/bn-keras page serving

int8: $(VENV)/.serve  ## int8 beside float32 on trained networks, only what is missing in benchmarks/int8/: docs/int8.md
	$(BIN)/bn-keras page int8

surgery: $(VENV)/.dev  ## surgery on everyday models, only what is missing in benchmarks/surgery/: docs/surgery.md
	$(BIN)/bn-keras page surgery

replicas: $(VENV)/.lab  ## the same run on one device, replicas and workers: docs/replicas.md
	$(BIN)/bn-keras page replicas

throughput: $(VENV)/.lab  ## examples per second of bn-keras train beside Keras' fit: docs/throughput.md
	$(BIN)/bn-keras page throughput

weights: $(VENV)/.lab  ## train what is missing of the weights in bn_keras/models/shipped, and write them
	$(BIN)/python -m bn_keras.experiments.ship $(data_dir)

zoo: $(VENV)/.lab  ## make the runs that are missing in models/, which takes hours, and write its pages
	$(BIN)/python -m bn_keras.experiments.comparison.zoo $(data_dir)
	$(BIN)/bn-keras page zoo
	$(BIN)/bn-keras page speedups

claims: $(VENV)/.lab  ## measure every claim about normalization, which takes hours of a core, and write their page
	$(BIN)/bn-keras claims --images cifar10_jpeg $(data_dir) --out claims --resume
	cp claims/C*.json bn_keras/experiments/claims/results/
	$(BIN)/bn-keras page claims
	$(BIN)/bn-keras page verdicts

# A failing cell of a notebook and a broken link are errors. Executed notebooks are kept until their code changes.
docs: $(VENV)/.docs  ## the documentation site: docs/_build/html/index.html; NOTEBOOKS=off runs no notebooks
	$(BIN)/bn-keras page options
	NOTEBOOKS=$(NOTEBOOKS) $(BIN)/python -m sphinx --jobs auto --quiet --fail-on-warning --keep-going -c docs . docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

notebooks: $(VENV)/.dev  ## run every notebook from top to bottom
	$(BIN)/pytest --exhaustive tests/test_notebooks.py


# Newer tensorflow-metadata needs a newer protobuf than this TensorFlow has, and does not say so.
test-oldest:  ## all tests on the oldest supported TensorFlow and Keras, in .venv-oldest
	$(MAKE) test VENV=.venv-oldest PINS="tensorflow==2.18.0 keras==3.6.0 tensorflow-metadata==1.17.1"

clean:  ## remove what was made here
	rm -rf .venv .venv-oldest demo comparison claims build dist docs/_build *.egg-info .mypy_cache .pytest_cache .ruff_cache

# One mark per extra: made again when what is to be installed changes.
$(VENV)/.lab: extras := lab
$(VENV)/.dev: extras := lab,dev,export
$(VENV)/.bench: extras := lab,bench
$(VENV)/.serve: extras := lab,export
$(VENV)/.docs: extras := lab,export,docs
$(VENV)/.lab $(VENV)/.dev $(VENV)/.bench $(VENV)/.serve $(VENV)/.docs: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable ".[$(extras)]" $(PINS)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "Python 3.11 to 3.13 is needed, but '$(PYTHON)' is not one. Name one: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing TensorFlow and the rest into $(VENV): a minute or two."
