# make demo | test | lint | clean, and for developers coverage | docs | notebooks | wheel-test | test-lowest | adapters (CONTRIBUTING.md).
# Each makes the environment it needs in .venv; a stamp file makes the next call quick.
#   make demo ARGS="tasks=[open_slide] model=[direct,random]"     settings of benchmarks/vp2.py
#   make demo DEMO=                                               plain CEM, without the shipped policy
#   make test EXTRAS=libero                                       LIBERO's tests too, see docs/libero.md
#   make demo TORCH="./torch-2.13.0+cpu.whl"                      any arguments of pip install that bring a torch
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
JOBS ?= 2
DEMO ?= planner=guided proposal=policy
ARGS ?=
EXTRAS ?=
PYTEST_ARGS ?= -n $(JOBS) --dist loadfile

# What uses most of the interfaces of gymnasium, diffusers and the small libraries, and needs no extra.
LOWEST_TESTS := tests/planners tests/models/test_vae.py tests/models/test_world_model.py tests/env/test_dream_env.py \
  tests/env/test_dream_vector.py tests/env/test_rewards.py tests/env/test_ensembles.py

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := $(VENV)/constraints.txt
# LIBERO with what it imports: its other requirements are 2 GB that it needs only for training.
LIBERO := libero==0.1.1 robosuite==1.4.0 bddl==1.0.1
LIBERO_NEEDS := numba easydict future termcolor opencv-python-headless

ifeq ($(shell uname -s),Linux)
export MUJOCO_GL ?= egl
endif
export LP_NUM_THREADS ?= 1

.PHONY: demo test coverage adapters test-lowest wheel-test docs notebooks lint opengl clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo opengl
	$(BIN)/python benchmarks/vp2.py $(DEMO) $(ARGS)

test: $(VENV)/.dev $(if $(filter libero,$(EXTRAS)),$(VENV)/.libero) opengl
	$(BIN)/python -m pytest $(PYTEST_ARGS)

coverage: $(VENV)/.dev opengl
	$(BIN)/python -m pytest $(PYTEST_ARGS) --cov --cov-report=term

# In an environment of its own: beside a torch for CPUs the torchvision of these packages does not
# import, and diffusers would try to.
adapters:
	$(MAKE) VENV=$(VENV)-rivals $(VENV)-rivals/.rivals
	$(VENV)-rivals/bin/python -m pytest tests/planners/test_adapters.py tests/env/test_rl_libraries.py \
	  tests/benchmarks/test_dream_rl.py

# The oldest libraries that pyproject.toml allows, in an environment of their own.
test-lowest:
	$(MAKE) VENV=$(VENV)-lowest $(VENV)-lowest/.lowest
	$(VENV)-lowest/bin/python -m pytest $(LOWEST_TESTS)

wheel-test: $(VENV)/.dev opengl
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python .ci/check_wheel.py dist/*.whl
	.ci/wheel_test $(BIN)/python dist/*.whl $(CONSTRAINTS) $(TORCH)

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

notebooks: $(VENV)/.dev opengl
	$(BIN)/python -m pytest tests/test_notebooks.py

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

opengl: $(VENV)/.demo
	@$(BIN)/python -c 'import mujoco as m; m.Renderer(m.MjModel.from_xml_string("<mujoco/>"), 64, 64).render()' 2>/dev/null || { \
	  echo "OpenGL cannot start, so the simulator cannot render. On Debian or Ubuntu install:"; \
	  echo "  sudo apt-get install -y libegl1 libgl1-mesa-dri libgles2"; exit 1; } >&2

# torch comes first and stays: whatever version TORCH brought is the constraint of all later installs.
$(CONSTRAINTS):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13) and "RoboDesk installs on Python 3.11 and 3.12 only: name one with, for example, make PYTHON=python3.12")'
	@echo "Installing into $(VENV), once; this takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet $(TORCH)
	$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' >$@

$(VENV)/.demo: $(CONSTRAINTS) pyproject.toml
	$(PIP) install --quiet -c $(CONSTRAINTS) -e '.[robodesk,train,play]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) install --quiet -c $(CONSTRAINTS) -e '.[robodesk,train,play,dev]'
	@touch $@

$(VENV)/.libero: $(VENV)/.dev
	$(PIP) install --quiet --no-deps $(LIBERO)
	$(PIP) install --quiet -c $(CONSTRAINTS) $(LIBERO_NEEDS)
	@touch $@

$(VENV)/.rivals: $(CONSTRAINTS) pyproject.toml
	$(PIP) install --quiet -c $(CONSTRAINTS) -e '.[rivals,rl,robodesk,train]' pytest
	@touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) install --quiet -c $(CONSTRAINTS) -e '.[docs]'
	@touch $@

$(VENV)/.lowest: $(CONSTRAINTS) pyproject.toml
	$(PIP) install --quiet -c $(CONSTRAINTS) $$($(PYTHON) .ci/lowest.py) pytest hypothesis 'moviepy>=2.1' 'av>=14.2'
	$(PIP) install --quiet --no-deps -e .
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-rivals $(VENV)-lowest dist site
