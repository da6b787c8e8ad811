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

.PHONY: setup demo play recording pictures bench data test test-one test-kubeadm test-releases test-long test-monitoring test-mesh test-rulebook unit integration system browser newest-core update lint format \
  servers ansible-test sanity docs molecule tarball clean

setup: .venv/stamp .ansible/stamp

.venv/stamp: tests/locks/dev.txt
	@tests/tools/system_packages.sh python
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --require-hashes -r tests/locks/dev.txt
	touch $@

.ansible/stamp: .venv/stamp tests/tools/prepare.py tests/locks/ansible.txt
	$(BIN)/python tests/tools/prepare.py
	touch $@

demo: setup
	$(BIN)/python tests/demo/run.py

# Three masters to play with, and a shell that has everything; leaving the shell takes them down.
play: setup
	@$(BIN)/python tests/demo/play.py

# Runs the demo and records it for the README: docs/docsite/images/demo.svg
recording: setup
	$(BIN)/python tests/demo/recording.py

# Takes the screenshots of reports for the README and the guides: docs/docsite/images/report-*.png
pictures: setup browser
	$(BIN)/python tests/demo/pictures.py

# make bench PARTS="flood latency" ROUNDS=2: see tests/benchmark/README.md
bench: setup
	$(BIN)/python tests/benchmark/run.py --rounds $(or $(ROUNDS),3) $(PARTS)

# What each release can decode and stores, for upgrade_check; see tests/release_data/generate.py
data: setup
	$(BIN)/python -m tests.release_data.generate $(RELEASES)
	$(BIN)/python -m tests.release_data.components
	$(BIN)/python -m tests.release_data.lifecycles

# Files of tests run side by side: mostly they wait for servers to start. SHARD=2/3 runs the second of three parts, for CI that
# spreads the tests over machines; the first part includes the linters.
WORKERS ?= $(shell expr 2 \* $$(nproc))
SHARD ?= 1/1
test: setup $(if $(filter 1/%,$(SHARD)),lint test-monitoring) system browser servers $(if $(filter 1/%,$(SHARD)),sanity,newest-core)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=25 --shard $(SHARD)

# The metrics and the alert rules, with Prometheus' own promtool, which it builds before.
test-monitoring: setup
	@if command -v go >/dev/null; then $(BIN)/python tests/control_plane/cluster.py build --promtool >/dev/null; fi
	$(BIN)/pytest tests/monitoring

# A fleet in slices over the nodes of a real automation mesh; see tests/automation/README.md.
test-mesh: setup system servers
	@command -v receptor >/dev/null || { echo "The mesh needs the program receptor on the PATH; it is at https://github.com/ansible/receptor/releases." >&2; exit 1; }
	$(BIN)/pytest tests/automation/test_mesh.py

# The rulebook of extensions/eda in the real ansible-rulebook.
test-rulebook: setup system servers
	@tests/tools/system_packages.sh java
	$(BIN)/pytest tests/automation/test_rulebook.py

# make test-one T=tests/integration/test_migrate.py::test_writers_lose_nothing
test-one: setup system
	$(BIN)/pytest -x -m "long or not long" $(T)

unit: setup
	$(BIN)/pytest tests/unit tests/tools tests/control_plane

integration: setup system browser servers
	$(BIN)/pytest --durations=25 tests/integration

# The driver kubeadm on real kubeadm, kubelets and containerd; see tests/kubeadm/README.md
test-kubeadm: setup
	@tests/tools/system_packages.sh kubeadm
	$(BIN)/pytest tests/kubeadm

# The core of the tests on each minor's real servers, which it builds: see tests/releases/README.md.
# RELEASES="1.31.14 etcd-3.4.13": only those.
test-releases: setup system
	$(BIN)/pytest tests/releases --record $(addprefix --release ,$(RELEASES))

# Upgrades over several releases, back, and from a snapshot, and kine on PostgreSQL and MariaDB: half an hour of both cores.
test-long: setup system servers
	@tests/tools/system_packages.sh databases || echo "The tests of kine on other databases than SQLite will be skipped."
	$(BIN)/pytest -m long --durations=0 tests/integration

# What the tests need of the machine. Without root there are no test hosts anyway, and the tests say that they are skipped.
system:
	@tests/tools/system_packages.sh integration || [ "$$(id -u)" != 0 ]

# The releases of Kubernetes that the tests run. They are built before, as a build beside running servers starves these.
servers: setup
	@if command -v go >/dev/null; then $(BIN)/python tests/control_plane/cluster.py build >/dev/null; fi

# Chromium, for the tests that open reports; where it can't be installed, they are skipped and say so.
browser:
	@tests/tools/system_packages.sh browser || echo "The tests that open reports in a browser will be skipped."

# Updates everything that is locked to the newest release allowed: Python tools (tests/locks), Kubernetes and etcd (the Go modules).
update: setup
	$(BIN)/python tests/tools/locks.py update
	$(BIN)/python tests/tools/go_modules.py update

lint: setup
	$(BIN)/python tests/tools/locks.py check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p ansible_collections.kube_storage.upgrade.plugins.module_utils -p ansible_collections.kube_storage.upgrade.plugins.plugin_utils
	$(BIN)/mypy -p tests.control_plane
	$(BIN)/mypy -p tests.kubeadm
	$(BIN)/mypy -p tests.release_data
	$(BIN)/mypy -p tests.benchmark
	$(BIN)/mypy -p tests.tools
	$(BIN)/mypy -p tests.integration.support
	$(BIN)/mypy -p tests.automation
	PYTHONPATH=$(CURDIR)/.ansible/collections $(BIN)/lint-imports --no-logo
	$(BIN)/yamllint --strict .
	$(BIN)/codespell
	$(BIN)/python tests/tools/style.py
	$(BIN)/reuse lint --quiet || { $(BIN)/reuse lint; exit 1; }
	$(BIN)/pre-commit validate-config .pre-commit-config.yaml
	$(BIN)/antsibull-changelog lint
	$(BIN)/antsibull-docs lint-collection-docs --plugin-docs .
	$(BIN)/ansible-lint --strict
	$(BIN)/python tests/tools/galaxy_importer.py

format: setup
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

# ansible-test's sanity and unit tests, with one ansible-core (2.17, 2.18, 2.19, 2.20 or newest, see tests/locks) and Python.
TEST_PYTHON ?= $(PYTHON)
CORE ?= 2.19
ansible-test: setup
	$(BIN)/python tests/tools/ansible_test.py $(TEST_PYTHON) $(CORE)

# The same with the ansible-core that we develop on, and the newest.
sanity: setup
	$(BIN)/python tests/tools/ansible_test.py $(PYTHON) 2.19
	$(if $(NEXT_PYTHON),$(BIN)/python tests/tools/ansible_test.py $(NEXT_PYTHON) newest,@echo "No Python 3.13 here: ansible-test with the newest ansible-core is left out.")

# The newest ansible-core, for the tests that use it, too.
newest-core: setup
	$(if $(NEXT_PYTHON),$(BIN)/python tests/tools/ansible_test.py $(NEXT_PYTHON) newest --install,@true)

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
