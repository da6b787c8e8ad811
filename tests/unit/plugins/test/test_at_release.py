# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.test.at_release import at_release


@pytest.mark.parametrize(
    ("server", "release", "is_there"),
    [
        ({"version": "v1.37.2", "emulated_version": None}, "1.37", True),
        ({"version": "v1.37.2-eks-1a2b3c"}, "v1.37.2", True),
        ({"version": "v1.37.2+rke2r1"}, 1.37, True),
        ({"version": "v1.37.0-rc.1"}, "1.37.0", False),
        ({"version": "v1.37.2", "emulated_version": "1.36"}, "1.37", False),
        ({"version": "v1.37.2", "emulated_version": "1.36"}, "1.36.9", True),
        ({"version": None, "emulated_version": None, "error": "refuses connections"}, "1.37", False),
        ({}, "1.37", False),
        ("v1.37.2", "1.37", True),
        (None, "1.37", False),
    ],
)
def test_servers_and_versions(server: Any, release: Any, is_there: bool) -> None:
    assert at_release(server, release) is is_there
