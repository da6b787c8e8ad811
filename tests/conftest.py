# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the collection importable under its full name, from where ``make setup`` put it; and shards the tests by file."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
for folder in (ROOT, ROOT / ".ansible" / "collections"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

# The same examples each time, so that no run fails for what another one would have found as well; HYPOTHESIS_PROFILE=default explores.
# Nor does any for a machine that is busy with something else.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# Minutes that the longest files take here, so that shards are alike and no worker is left with one of these at the end. Where
# --durations tells something else, correct it.
LONG = {
    "test_no_loss_role.py": 12,
    "test_no_loss_rotation.py": 12,
    "test_role.py": 9,
    "test_molecule.py": 9,
    "test_rotate_encryption_key.py": 6,
    "test_upgrade_check.py": 6,
    "test_migrate_trouble.py": 6,
    "test_no_loss_interrupted.py": 5,
    "test_documentation.py": 4,
    "test_role_in_any_play.py": 4,
    "test_several_clusters.py": 4,
    "test_role_mistakes.py": 3,
    "test_migrate.py": 4,
    "test_least_privilege.py": 4,
    "test_openshift.py": 4,
    "test_no_loss_crds.py": 4,
    "test_real_upgrade.py": 3,
    "test_stored_versions.py": 3,
    "test_migrate_faults.py": 3,
    "test_progress.py": 3,
    "test_engines.py": 3,
    "test_migrate_objects.py": 3,
    "test_recipes.py": 3,
    "test_no_loss_encryption.py": 3,
    "test_no_loss_etcd.py": 3,
    "test_control_plane.py": 2,
    "test_role_truth.py": 2,
    "test_managed_fields.py": 2,
    "test_etcd_space.py": 2,
    "test_sampling.py": 2,
    "test_real_migrator.py": 2,
    "test_requests.py": 2,
    "test_no_loss_objects.py": 2,
    "test_plain_output.py": 2,
    "test_as_installed.py": 2,
    "test_bad_input.py": 1,
    "test_ways_in.py": 1,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shard", default="1/1", metavar="N/M", help="run the N-th of M parts, divided by file")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    number, parts = (int(part) for part in config.getoption("--shard", "1/1").split("/"))
    if not 1 <= number <= parts:
        raise pytest.UsageError(f"--shard {number}/{parts}: the first number goes from 1 to the second")
    minutes = estimate(Counter(item.path for item in items))
    mine = divide(minutes, parts)[number - 1]
    config.hook.pytest_deselected(items=[item for item in items if item.path not in mine])
    items[:] = [item for item in items if item.path in mine]
    if hasattr(config, "workerinput"):  # One of several workers: the longest files come first.
        items.sort(key=lambda item: -minutes[item.path])


def estimate(tests: Mapping[Path, int]) -> dict[Path, float]:
    """About how many minutes each file takes, by its number of tests."""
    return {
        path: LONG.get(path.name, number / 3 if "integration" in path.parts else number / 2000)
        for path, number in tests.items()
    }


def divide(minutes: Mapping[Path, float], parts: int) -> list[set[Path]]:
    """Spreads files over a number of parts of about the same length."""
    divided: list[set[Path]] = [set() for _part in range(parts)]
    for path in sorted(minutes, key=lambda path: (-minutes[path], path)):
        shortest = min(divided, key=lambda files: sum(minutes[path] for path in files))
        shortest.add(path)
    return divided
