# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The folder of a fleet on the controller: its record and page, the metrics, and a folder with the reports of each cluster."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import require_writable, write_whole
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.record import FleetRecord, read_fleet
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import Report
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import (
    ReportFiles,
    read_report,
    result_path,
)
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.json_data import as_json
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import FleetTask, Snapshot

CLUSTERS = "clusters"
# The reports of one cluster; the first is the one that its row is made from.
STATE, CHECK, MIGRATION = "state", "check", "migration"
_KINDS = (STATE, CHECK, MIGRATION)


class FleetFolder:
    """``index.html``, ``fleet.json``, ``metrics.prom``, and ``clusters/<name>/state.json`` with its page for each cluster."""

    def __init__(self, path: str, metrics: str | None = None) -> None:
        self.path = Path(path).expanduser().absolute()
        if self.path.exists() and not self.path.is_dir():
            raise BadInputError(f"The fleet's page can't be written to {path}, which is a file; name a folder.")
        self.files = ReportFiles(str(self.path / "index.html"))
        self.files.json = self.path / "fleet.json"
        self.metrics = Path(metrics).expanduser().absolute() if metrics else self.path / "metrics.prom"

    def read(self) -> FleetRecord | None:
        """The record so far; None if there is none, or it can't be read."""
        try:
            return read_fleet(json.loads(self.files.json.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError):
            return None

    def reports(self, task: FleetTask) -> dict[str, Report]:
        """The reports about each cluster, by its name in the inventory. Whatever isn't a report, or can't be read, is left out."""
        found = {}
        for folder in sorted(self.path.glob(f"{CLUSTERS}/*")):
            newest = folder / f"{STATE}.json"
            report = _snapshot(newest)
            result = report if report and report.fleet == task else _snapshot(result_path(newest, task))
            shown = report or result
            if shown is not None:
                found[folder.name] = Report(shown, self._pages(folder), result)
        return found

    def _pages(self, folder: Path) -> dict[str, str]:
        return {kind: f"{CLUSTERS}/{folder.name}/{kind}.html" for kind in _KINDS if (folder / f"{kind}.html").is_file()}

    def require_writable(self) -> None:
        """Raises StateStoreError if writing would; writes nothing."""
        for path in (self.files.json, self.files.html, self.metrics):
            require_writable(path)

    def write_record(self, record: FleetRecord) -> None:
        write_whole(self.files.json, (json.dumps(as_json(record), indent=1, ensure_ascii=False) + "\n").encode())

    def write_metrics(self, text: str) -> None:
        """Replaces the file as a whole; whoever collects it may be another user."""
        write_whole(self.metrics, text.encode(), mode=0o644)


def _snapshot(path: Path) -> Snapshot | None:
    """The report in a file; None also for a file beside the folders of clusters, or one that belongs to somebody else."""
    try:
        report = read_report(path)
    except OSError:
        return None
    return report if isinstance(report, Snapshot) else None


def require_names(clusters: list[str]) -> None:
    """Raises BadInputError for names that can't be those of folders."""
    odd = [name for name in clusters if not re.fullmatch(r"[^/\x00]+", name) or name in (".", "..")]
    if odd:
        raise BadInputError(
            f"The cluster '{odd[0]}' can't be the name of a folder; give it another name in the inventory."
        )
