PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo check test clean

# Answer questions about the sample documents, then show the answers.
demo: $(VENV)/ready
	$(BIN)/python -m pipeline.run input=data/samples task=qa task.questions=data/samples/questions.csv output=output/demo
	$(BIN)/python -m pipeline.show output/demo

# Static checks: style, then types.
check: $(VENV)/ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Every test that needs no GPU, no root and no vLLM.
test: $(VENV)/ready-dev
	$(BIN)/python -m pytest

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) output
