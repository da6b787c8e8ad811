# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every tool is pinned with hashes, by what its requirements are now."""

from __future__ import annotations

import pytest

from tests.tools import locks


def test_locks_are_up_to_date() -> None:
    assert locks.stale() == []


@pytest.mark.parametrize("name", sorted(locks.LOCKS))
def test_every_package_has_a_hash(name: str) -> None:
    blocks = locks.path(name).read_text(encoding="utf-8").replace(" \\\n", " ").splitlines()
    pinned = [line for line in blocks if not line.startswith("#")]
    assert pinned and [line for line in pinned if "==" not in line or " --hash=sha256:" not in line] == []


def test_a_pinned_version_is_found() -> None:
    assert locks.pinned("ansible-core-2.19", "ansible-core").startswith("2.19.")
    with pytest.raises(LookupError, match="make update"):
        locks.pinned("ansible", "no-such-package")
