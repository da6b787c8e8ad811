# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The logs of the servers that a test used, for the report of its failure."""

from __future__ import annotations

from pathlib import Path

from tests.control_plane.hosts import registered

_LINES, _WIDTH = 8, 300
_SILENT = ("balancer", "reaper")


def servers_logs(base: Path, since: float) -> list[Path]:
    """Logs below ``base`` (a worker's temporary folder): of clusters that still run, and what was written to since then."""
    running = {Path(folder) for folder in registered().values()}
    found = {log.resolve() for depth in ("*", "*/*", "*/*/*") for log in base.glob(f"{depth}/logs/*.log")}
    logs = [log for log in sorted(found) if log.stem not in _SILENT]
    return [log for log in logs if log.parents[1] in running or log.stat().st_mtime >= since]


def last_lines(log: Path) -> str:
    """The path of a log, and its end."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES:]
    return "\n".join([f"{log}:", *(f"    {line[:_WIDTH]}" for line in lines or ["(empty)"])])
