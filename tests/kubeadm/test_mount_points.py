# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Removing an empty folder takes away what others have mounted there, so a cluster that goes must look for that first."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.control_plane.processes import wait_for

from .cluster import mount_points


def test_what_another_process_has_mounted_is_seen(tmp_path: Path) -> None:
    there, empty = tmp_path / "there", tmp_path / "empty"
    there.mkdir()
    empty.mkdir()
    assert str(there) not in mount_points()
    command = f"mount --bind '{empty}' '{there}' && exec cat"
    private = ["unshare", "--mount", "--propagation", "private", "sh", "-c", command]
    with subprocess.Popen(private, stdin=subprocess.PIPE) as other:
        assert wait_for(lambda: str(there) in mount_points(), 20.0)
        there.rmdir()  # The kernel allows it, and the other process has lost its mount.
        assert str(there) not in mount_points()
        other.communicate()
