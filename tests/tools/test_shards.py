# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How ``make test SHARD=1/3`` divides the tests."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import LONG, ROOT, divide, estimate


def test_each_file_is_in_one_shard_and_long_files_are_spread() -> None:
    files = {Path(f"tests/integration/test_{i}.py"): 3 for i in range(4)}
    files |= {Path(f"tests/unit/test_{i}.py"): 100 for i in range(10)}
    minutes = estimate(files)
    shards = divide(minutes, 2)
    assert shards[0] | shards[1] == set(files) and not shards[0] & shards[1]
    assert [sum(path.parts[1] == "integration" for path in shard) for shard in shards] == [2, 2]


def test_the_long_files_exist() -> None:
    assert [name for name in LONG if not (ROOT / "tests" / "integration" / name).exists()] == []
