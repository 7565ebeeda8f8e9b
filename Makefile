# make run: the whole pipeline on built-in data; make ui: its runs in MLflow; make test: all checks and tests.
# make images: an image a stage, by Docker (docs/docker.md); make test-docker: these, and their tests.
PYTHON ?= python3
RUNS ?= runs
BIN := .venv/bin
# Nothing is installed whose SHA-256 is not in a lock; two packages come as source and are built with the lock's setuptools.
LOCKED := $(BIN)/pip install --disable-pip-version-check --quiet --require-hashes --no-deps

.PHONY: run ui test images test-docker format clean

run: .venv/ready
	$(BIN)/imitation-refinement run --profile default

ui: .venv/ready
	$(BIN)/imitation-refinement ui --runs $(RUNS) --open

# Files in their order: xdist would begin with those of most tests, and leave whole runs, a test a file, to one process.
# Three processes for two cores: tests wait for servers, and for processes that they start.
test: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy shared components pipelines web
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder

images: .venv/ready
	$(BIN)/python docker/build.py

test-docker: images
	$(BIN)/pytest -m docker -n 2 --dist loadfile --durations 10 tests/docker

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find shared components pipelines web benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

# Made anew, and whole, when the lock or the package's metadata change.
.venv/ready: requirements.lock docker/more.lock setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=…")'
	@echo "The locked packages into .venv, once: a few minutes."
	rm -rf .venv
	$(PYTHON) -m venv .venv
	sed -n '/^setuptools==/,/[^\\]$$/p' requirements.lock > .venv/build.lock
	$(LOCKED) --requirement .venv/build.lock
	$(LOCKED) --no-build-isolation --requirement requirements.lock
	case "$$($(BIN)/pip show torch)" in *+cpu*) ;; \
	*) sed -E '/^(autoxrd|matminer|xraylarch)==/,/[^\\]$$/d' docker/more.lock > .venv/cuda.lock && \
	   $(LOCKED) --requirement .venv/cuda.lock;; esac
	$(BIN)/pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m components.simulate.warm
	$(BIN)/python -m imitation_refinement.answer.warm
	@touch $@
