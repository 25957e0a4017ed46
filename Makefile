# make demo   the environment, then the main job on the embedded corpus
# make test   the environment, then all tests
# make test-slurm   the chain on a Slurm that is started here (skipped if it cannot be), killed at random moments, on a full disk
# make bench      every stage against the plain recipe and the hardware's limit: docs/speed.md (eight minutes on two cores)
# make growth     time and memory against clips, windows and machines: docs/growth.svg
# make bench-gpu  the networks on a CUDA device
# make lint   ruff, snakefmt and snakemake --lint
# make lock   write envs/requirements.txt and envs/asd.yaml again from pyproject.toml
PYTHON ?= python3
VENV ?= .venv
CORES ?= 8
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Some containers forbid compiled bytecode; without it torch and timm take three times as long to import, in every job.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-slurm bench growth bench-gpu lint lock environment

demo: environment
	snakemake --cores $(CORES) results/tables/auc_total.csv

test: environment
	python -m pytest -n 2 --dist loadfile

test-slurm: environment
	python -m pytest -rs tests/slurm tests/chaos

bench: environment
	python benchmarks/bench.py

growth: environment
	python benchmarks/growth.py

bench-gpu: environment
	python benchmarks/gpu.py

lint: environment
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	snakemake --lint

environment: $(VENV)/.complete

# The stamp is written last, so an interrupted installation is repeated.
$(VENV)/.complete: envs/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; \
		sys.exit(None if (3, 11) <= v <= (3, 13) else f"found Python {v[0]}.{v[1]}, need 3.11 to 3.13: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet "uv==0.13.9"
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --require-hashes --requirements envs/requirements.txt
	$(VENV)/bin/uv pip install --quiet --python $(VENV)/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

lock:
	$(VENV)/bin/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --extra dev --extra onnx pyproject.toml --output-file envs/requirements.txt
	$(VENV)/bin/python envs/conda.py
