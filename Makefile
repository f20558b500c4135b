# SPDX-License-Identifier: Apache-2.0
# Everything here sets up what it needs first; a second run starts in seconds.
.DEFAULT_GOAL := help
.PHONY: help demo test build lint unit cpp system tidy clean
SHELL := bash

EPISODES ?= 5
IN_ENV := . scripts/env.sh &&

help: ## Shows this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: build ## Runs the closed loop: simulated arm, policy, supervisor, recorder (EPISODES=5)
	@.venv/bin/vla up sim_franka --episodes $(EPISODES) --record bags --report reports/demo

test: build ## Runs lint, unit tests, C++ tests and system tests
	@$(IN_ENV) python scripts/test.py

build: ## Installs what is missing and builds the workspace
	@scripts/build.sh

lint: build ## Runs ruff, mypy, clang-format and codespell
	@$(IN_ENV) python scripts/test.py lint

unit: build ## Runs the Python unit tests of every package
	@$(IN_ENV) python scripts/test.py unit

cpp: build ## Runs the C++ unit tests
	@$(IN_ENV) python scripts/test.py cpp

system: build ## Runs the tests that cross packages
	@$(IN_ENV) python scripts/test.py system

tidy: build ## Runs clang-tidy on the real-time core
	@$(IN_ENV) scripts/tidy.sh

clean: ## Removes what was built, but not .venv
	@rm -rf build install log
