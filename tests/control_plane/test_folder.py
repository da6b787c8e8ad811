# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of a test cluster, which several processes change."""

from __future__ import annotations

import json
from pathlib import Path

from tests.control_plane.folder import ClusterFolder
from tests.control_plane.processes import Process


class Folder(ClusterFolder):
    STATE = "state.json"
    ERROR = RuntimeError


def test_masters_that_start_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    (tmp_path / Folder.STATE).write_text(json.dumps({"processes": {}}), encoding="utf-8")
    one, other = Folder(tmp_path), Folder(tmp_path)
    one._keep("master-1", Process(11, 1))
    other._keep("master-2", Process(12, 2))
    assert set(Folder(tmp_path).data["processes"]) == set(other.data["processes"]) == {"master-1", "master-2"}
