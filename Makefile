# Every target installs what it lacks into .venv, and again only when its lock file has changed: the
# demo needs fgaug alone; tests, linters and benchmarks add the extra `dev`, which is twice as large.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEV := .venv/.installed-dev
# OpenMP threads that wait actively fight with the trials beside them.
export OMP_WAIT_POLICY := passive

# A file of tests in each of two processes; then those with a Ray cluster, which wants both cores.
define FAST
OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not gpu and not ray' -n 2 --dist loadfile
$(BIN)/python -m pytest -m 'ray and not slow and not gpu'
endef

.PHONY: setup demo breast test test-all check bench calibrate lock clean

setup: $(DEV)

$(STAMP): requirements/run.txt requirements/install.sh
	$(PYTHON) -m venv .venv
	requirements/install.sh $(BIN)/python requirements/run.txt ''
	touch $(STAMP)

$(DEV): requirements/dev.txt requirements/install.sh
	$(PYTHON) -m venv .venv
	requirements/install.sh $(BIN)/python requirements/dev.txt '[dev]'
	touch $(STAMP) $(DEV)

# Lock files with hashes for Linux and macOS, Python 3.11 or newer, after a change of pyproject.toml.
UV_COMPILE = $(BIN)/python -m uv pip compile --quiet --universal --generate-hashes --no-annotate \
  --no-emit-index-url --custom-compile-command 'make lock' --python-version 3.11
lock: $(STAMP)
	$(UV_COMPILE) pyproject.toml --extra dev --output-file requirements/dev.txt
	$(UV_COMPILE) pyproject.toml --constraints requirements/dev.txt --output-file requirements/run.txt
	echo uv | $(UV_COMPILE) - --output-file requirements/uv.txt

# Debian's Prometheus for a test, unpacked into .venv: needs no root and starts no service.
PROMETHEUS := .venv/prometheus/usr/bin/prometheus

$(PROMETHEUS): | $(DEV)
	@command -v prometheus > /dev/null || (cd .venv && apt-get download --quiet prometheus && \
	  dpkg-deb --extract prometheus_*.deb prometheus && rm prometheus_*.deb) || \
	  echo 'no Prometheus: apt-get has none; the test that asks one is skipped'

demo: $(STAMP)            # the main job on simulated images, ends with a report
	$(BIN)/fgaug demo

# The breast-ultrasound study in small, whole: BUS_BRA is the folder that the BUS-BRA set unpacks to.
# Each command goes on where it was cut off; what is done is not done again.
BREAST := runs/breast-small
PREPARE_BREAST = $(BIN)/fgaug data prepare --preset bus-bra "$(BUS_BRA)" --images crops_128 --test 0.2
breast: $(DEV)
	@test -d "$(BUS_BRA)" || { echo 'make breast needs BUS_BRA=FOLDER, the BUS-BRA set unpacked'; exit 2; }
	$(PREPARE_BREAST) --size 64 --out data/bus-bra
	$(BIN)/fgaug search search_spaces/breast_ultrasound_small.yaml --out $(BREAST)
	$(PREPARE_BREAST) --size 96 --out data/bus-bra-96
	$(BIN)/fgaug search search_spaces/breast_ultrasound_steps.yaml
	test -s $(BREAST)/compare.txt || { $(BIN)/fgaug compare '$(BREAST):baseline#693' \
	  '$(BREAST):best#693@1' --open-test > $(BREAST)/compare.tmp && \
	  mv $(BREAST)/compare.tmp $(BREAST)/compare.txt; }  # one look at the test set
	cat $(BREAST)/compare.txt
	$(BIN)/fgaug report $(BREAST)

test: $(DEV)            # everything fast, Ray included
	$(FAST)

test-all: $(DEV) $(PROMETHEUS) # and the slow ones; a marker that ran no test is a failure
	$(FAST)
	$(BIN)/python -m pytest -m 'slow and not gpu'
	if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
	then $(BIN)/python -m pytest -m gpu; else echo 'no CUDA device: tests marked gpu not run'; fi

check: $(DEV)           # lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV)             # the table of targets beside an earlier build, two hours; LINES chooses some
	$(BIN)/python benchmarks/table.py $(if $(LINES),--lines $(LINES))

calibrate: $(DEV)       # known answers: does the instrument measure? writes reports/calibration.md
	$(BIN)/python benchmarks/calibrate.py

clean:
	rm -rf .venv build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
