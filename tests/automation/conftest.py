# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Says why tests are skipped: without root there are no network namespaces."""

from __future__ import annotations

import pytest

from tests.control_plane.hosts import HostError, require_root


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        require_root()
    except HostError as error:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=str(error)))
