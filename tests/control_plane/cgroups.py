# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits a process's share of the CPU, with cgroup v1 or v2."""

from __future__ import annotations

from pathlib import Path

_PERIOD = 100_000
_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")


def limited(name: str, cores: float) -> Path:
    """A cgroup of that name that may use this many cores."""
    quota = int(cores * _PERIOD)
    if (_V1 / "cpu.cfs_quota_us").exists():
        folder = _V1 / name
        folder.mkdir(exist_ok=True)
        (folder / "cpu.cfs_period_us").write_text(str(_PERIOD), encoding="utf-8")
        (folder / "cpu.cfs_quota_us").write_text(str(quota), encoding="utf-8")
    else:
        folder = _V2 / name
        folder.mkdir(exist_ok=True)
        (folder / "cpu.max").write_text(f"{quota} {_PERIOD}", encoding="utf-8")
    return folder


def remove(name: str) -> None:
    """Removes the cgroup once its processes are gone."""
    for base in (_V1, _V2):
        try:
            (base / name).rmdir()
        except OSError:
            continue
