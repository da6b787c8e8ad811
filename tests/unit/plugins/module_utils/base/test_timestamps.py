# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times from records and headers that somebody else may have written."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import parse_date, parse_time

NOON = datetime(2026, 11, 26, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize("text", ["2026-11-26T12:00:00Z", "2026-11-26T12:00:00.000000Z", "2026-11-26T14:00:00+02:00"])
def test_a_time(text: str) -> None:
    assert parse_time(text) == NOON


@pytest.mark.parametrize("text", [None, "", "noon", "2026-11-26", "2026-11-26T12:00:00"])
def test_what_can_not_be_compared_with_another_time(text: str | None) -> None:
    """Python refuses to subtract one without a time zone, so a record that was edited by hand ended in a traceback."""
    assert parse_time(text) is None


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_date_is_in_gmt(zone: str) -> None:
    assert parse_date(f"Thu, 26 Nov 2026 12:00:00 {zone}") == NOON
