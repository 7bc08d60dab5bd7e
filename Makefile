# Needs python3 (3.11 or newer) and make; everything else goes into .venv. Run `make` alone for the list.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/demucs-server-worker
READY  := $(VENV)/.ready
# One more than there are cores, since tests wait a lot; each may start workers that take a gigabyte.
TEST_JOBS ?= $(shell $(PYTHON) -c 'import os; print(min(os.cpu_count() or 1, 3) + 1)')

.DEFAULT_GOAL := help
.PHONY: help install demo separate models doctor bench bench-throughput bench-one-stem bench-clips bench-memory bench-pool bench-first-work bench-floor bench-queue bench-workers bench-timeline bench-http-load bench-pictures worker worker-dev worker-start worker-test screenshots test test-fast test-slow lint format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is made anew when what it must hold has changed.
$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV): a minute or two, once"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,openvino]'
	@touch $(READY)

install: $(READY)  ## set up .venv

demo: $(READY)  ## separate four songs in parallel and compare the stems with the truth
	@$(RUN) demo

separate: $(READY)  ## separate your songs: make separate ARGS='"My Song.mp3" -o stems'
	@$(RUN) separate $(ARGS)

models: $(READY)  ## which models there are and which are on disk; ARGS='--download htdemucs' fetches one
	@$(RUN) models $(ARGS)

doctor: $(READY)  ## what keeps workers from starting, makes them crash, or makes them slow
	@$(RUN) doctor $(ARGS)

bench: $(READY)  ## all measurements, beside Demucs: two hours; with BENCH_QUICK=1 only that they work
	@$(BIN)/python -m bench.all $(ARGS)

# Numbers are those of the targets in docs/performance.md.
bench-throughput: $(READY)  ## 1: a batch of songs against Demucs' own command; ARGS='--repo FOLDER' names a folder with htdemucs
	@$(BIN)/python -m bench.throughput $(ARGS)

bench-one-stem: $(READY)  ## 2: one stem of htdemucs_ft
	@$(BIN)/python -m bench.one_stem $(ARGS)

bench-clips: $(READY)  ## 3: thirty short clips
	@$(BIN)/python -m bench.clips $(ARGS)

bench-memory: $(READY)  ## 4: memory by the length of the song
	@$(BIN)/python -m bench.memory $(ARGS)

bench-pool: $(READY)  ## 5: a full queue against its bare forward passes
	@$(BIN)/python -m bench.pool $(ARGS)

bench-first-work: $(READY)  ## 6: from add_task to the first forward pass
	@$(BIN)/python -m bench.first_work $(ARGS)

bench-floor: $(READY)  ## 7: how far a segment is from what the machine could do
	@$(BIN)/python -m bench.floor $(ARGS)

bench-queue: $(READY)  ## 8: add_task and claims a second
	@$(BIN)/python -m bench.queue $(ARGS)

bench-workers: $(READY)  ## throughput by the number of workers
	@$(BIN)/python -m bench.workers $(ARGS)

bench-timeline: $(READY)  ## a worker through three songs
	@$(BIN)/python -m bench.timeline $(ARGS)

bench-http-load: $(READY)  ## 500 uploads by 50 clients while all workers compute
	@$(BIN)/python -m bench.http_load $(ARGS)

bench-pictures: $(READY)  ## docs/images, drawn from what was measured last
	@$(BIN)/python -m bench.pictures

# exec: make's own child is the server, and signals reach it.
worker: $(READY)  ## run the server until Ctrl-C; ARGS=… for its flags
	@exec $(RUN) serve $(ARGS)

worker-dev: $(READY)  ## the same with debug logs, started anew on each change of the source
	@exec env LOG_LEVEL=$${LOG_LEVEL:-debug} $(RUN) serve --reload $(ARGS)

worker-start: $(READY)  ## the same as in production: JSON logs, as many workers as the machine has room for
	@exec env MAX_WORKERS=$${MAX_WORKERS:-auto} $(RUN) serve --log-format json $(ARGS)

worker-test: $(READY)  ## the main job once, with checks: a song through a real server, its stems compared with the truth
	@$(BIN)/python -m pytest -q tests/acceptance/test_main_job.py $(ARGS)

screenshots: $(READY)  ## pictures of the web page at three widths, light and dark, into screenshots/
	@$(BIN)/python -m tests.page.screenshots $(ARGS)

test: $(READY)  ## all tests but the slow ones
	@$(BIN)/python -m pytest -q -m 'not slow' -n $(TEST_JOBS) --dist worksteal $(ARGS)

test-fast: $(READY)  ## the unit tests alone, in seconds
	@$(BIN)/python -m pytest -q tests/unit $(ARGS)

test-slow: $(READY)  ## the tests that take minutes: an hour of audio, the demo model's held-out songs
	@$(BIN)/python -m pytest -q -m slow --timeout 3600 $(ARGS)

lint: $(READY)  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(READY)  ## put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove the environment and what tools left
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
