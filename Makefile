# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Each target installs all that it needs; what takes long is kept, keyed by its inputs.

PYTHON ?= python3
BIN := .venv/bin
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export PATH := $(CURDIR)/$(BIN):$(PATH)
# A newer Python, for the second round of ansible-test, with the newest ansible-core.
NEXT_PYTHON ?= $(firstword $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python) $(shell command -v python3.13))

.PHONY: setup demo test test-kubeadm bench docs unit integration browser lint format ansible-test sanity molecule tarball clean

setup: .venv/stamp .ansible/stamp

.venv/stamp: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -r requirements-dev.txt
	touch $@

.ansible/stamp: .venv/stamp tests/tools/prepare.py
	$(BIN)/python tests/tools/prepare.py
	touch $@

demo: setup
	$(BIN)/python tests/demo/run.py

# make bench PARTS="flood latency" ROUNDS=2: see tests/benchmark/README.md
bench: setup
	$(BIN)/python tests/benchmark/run.py --rounds $(or $(ROUNDS),3) $(PARTS)

# What each release can decode and stores, for upgrade_check; see tests/release_data/generate.py
data: setup
	$(BIN)/python -m tests.release_data.generate $(RELEASES)

test: setup lint sanity browser
	$(BIN)/pytest

unit: setup
	$(BIN)/pytest tests/unit

integration: setup browser
	$(BIN)/pytest tests/integration

# The driver kubeadm on real kubeadm, kubelets and containerd; see tests/kubeadm/README.md
test-kubeadm: setup
	@tests/tools/kubeadm.sh
	$(BIN)/pytest tests/kubeadm

# Chromium, for the test that opens reports; where it can't be had, that test is skipped and says so.
browser:
	@tests/tools/browser.sh

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p ansible_collections.kube_storage.upgrade.plugins.module_utils -p ansible_collections.kube_storage.upgrade.plugins.plugin_utils
	$(BIN)/mypy -p tests.control_plane
	$(BIN)/mypy -p tests.kubeadm
	$(BIN)/mypy -p tests.release_data
	$(BIN)/mypy -p tests.benchmark
	$(BIN)/yamllint --strict .
	$(BIN)/codespell
	$(BIN)/reuse lint --quiet || { $(BIN)/reuse lint; exit 1; }
	$(BIN)/pre-commit validate-config .pre-commit-config.yaml
	$(BIN)/antsibull-changelog lint
	$(BIN)/antsibull-docs lint-collection-docs --plugin-docs .
	$(BIN)/ansible-lint --strict
	$(BIN)/python tests/tools/galaxy_importer.py

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# ansible-test's sanity and unit tests, with one ansible-core and Python.
TEST_PYTHON ?= $(PYTHON)
CORE ?= ansible-core==2.19.14
ansible-test: setup
	$(BIN)/python tests/tools/ansible_test.py $(TEST_PYTHON) "$(CORE)"

# The same with the ansible-core that we develop on, and the newest.
sanity: setup
	$(BIN)/python tests/tools/ansible_test.py $(PYTHON) ansible-core==2.19.14
	$(if $(NEXT_PYTHON),$(BIN)/python tests/tools/ansible_test.py $(NEXT_PYTHON) ansible-core,@echo "No Python 3.13 here: ansible-test with the newest ansible-core is left out.")

docs: setup
	$(BIN)/python docs/site/build.py

molecule: setup
	$(BIN)/molecule test --all

tarball: setup
	mkdir -p build
	$(BIN)/python tests/tools/package.py build

clean:
	-$(BIN)/python tests/control_plane/cluster.py clean
	rm -rf .venv .ansible build
