# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sentences for people are printed wherever people read the output, and nowhere else."""

from __future__ import annotations

import pytest
from ansible import constants as C
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._action import only_printed, people_read


@pytest.mark.parametrize(
    ("callback", "read", "only"),
    [
        ("default", True, True),
        ("ansible.builtin.minimal", True, True),
        ("awx_display", True, False),  # ansible-runner's, and AWX's: results are data beside what is printed
        ("json", False, False),
        ("ansible.posix.json", False, False),
    ],
)
def test_by_the_callback_of_the_output(callback: str, read: bool, only: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(C, "DEFAULT_STDOUT_CALLBACK", callback)
    assert (people_read(), only_printed()) == (read, only)
