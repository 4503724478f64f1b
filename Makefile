# make demo   a tiny Qwen2.5-VL learns geometry with GMPO on a CPU, and a page shows how it went
# make test   the test suite
# Both make .venv on first use. PIP_ARGS is passed to every pip install, for example
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
VENV_T4 := .venv-t4

.PHONY: demo test setup lint test-t4 setup-t4 bench-objectives bench-step bench-rollout bench-memory bench-verify clean

demo: setup
	$(VENV)/bin/python recipes/demo.py

test: setup
	$(VENV)/bin/python -m pytest

test-t4: setup-t4
	$(VENV_T4)/bin/python -m pytest tests/models tests/batching tests/policy tests/verify tests/rollout

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

# Is the gradient the same under any split (ours, verl's formula, EasyR1 where installed), and what does the objective cost?
bench-objectives: setup
	$(VENV)/bin/python benchmarks/reduction.py
	$(VENV)/bin/python benchmarks/objective_cost.py

# An update with every picture and prompt once per group, against one rollout at a time and against the bound; rollouts
# against transformers' generate; peak memory at an equal token budget. ARGS="--device cuda --model-config qwen2_5_vl_7b"
bench-step: setup
	$(VENV)/bin/python benchmarks/training_step.py $(ARGS)

bench-rollout: setup
	$(VENV)/bin/python benchmarks/rollout.py $(ARGS)

bench-memory: setup
	$(VENV)/bin/python benchmarks/memory.py $(ARGS)

setup: $(VENV)/.done
setup-t4: $(VENV_T4)/.done

# torch comes first and alone: pinned before anything else can pull a build with CUDA.
$(VENV)/.done: constraints/cpu.txt pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q $(PIP_ARGS) torch==2.13.0
	$(VENV)/bin/pip install -q $(PIP_ARGS) -c constraints/cpu.txt -e ".[dev]"
	touch $@

$(VENV_T4)/.done: constraints/easyr1-cpu.txt pyproject.toml
	test -x $(VENV_T4)/bin/python || $(PYTHON) -m venv $(VENV_T4)
	$(VENV_T4)/bin/pip install -q $(PIP_ARGS) torch==2.13.0
	$(VENV_T4)/bin/pip install -q $(PIP_ARGS) -c constraints/easyr1-cpu.txt -e ".[dev]"
	touch $@

bench-verify: setup
	$(VENV)/bin/python benchmarks/verify.py

clean:
	rm -rf $(VENV) $(VENV_T4) runs build *.egg-info
