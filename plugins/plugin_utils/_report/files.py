# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two files of a report, on the controller: found, locked, read, replaced, and archived."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import require_writable, write_whole
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.json_data import as_json
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import (
    AnyRecord,
    FleetTask,
    Snapshot,
    read_record,
)
from markupsafe import escape

# The largest report, twice: each file is replaced by a whole new one.
_ROOM = 16 << 20


class ReportFiles:
    """``report.html`` and ``report.json``, whichever of the two is named; of a run in check mode ``report-check-mode.html`` beside them."""

    def __init__(self, path: str, *, check_mode: bool = False) -> None:
        given = Path(path).expanduser().absolute()
        if given.is_dir() or path.endswith(os.sep):
            raise BadInputError(f"The report can't be written to {path}, which is a folder; name a file in it.")
        base = given.with_suffix("") if given.suffix.lower() in (".html", ".htm", ".json") else given
        if check_mode:
            base = base.with_name(f"{base.name}-check-mode")
        suffix = given.suffix if given.suffix.lower() in (".html", ".htm") else ".html"
        self.html = base.with_name(base.name + suffix)
        self.json = base.with_name(base.name + ".json")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hosts of a play write at the same time. They lock the folder, so that no lock file is left behind."""
        try:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(self.json.parent, os.O_RDONLY)
        except OSError as error:
            raise BadInputError(
                f"The report can't be written to {self.json.parent}: {error.strerror}; set another path."
            ) from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def read(self) -> AnyRecord | None:
        """The record so far; None if there is none, or it can't be read."""
        return read_report(self.json)

    def archive(self, label: str, now: str) -> Path | None:
        """Renames existing files to keep them; returns the new path of the JSON."""
        label = re.sub(r"[^A-Za-z0-9._-]", "-", f"{label}-{now[:19]}")
        moved = self._free_names(label)
        archived = None
        for path, new in moved.items():
            if path.exists():
                os.replace(path, new)
                archived = new
        if moved[self.html].exists():
            self._name_json_of(moved[self.html], moved[self.json].name)
        return archived

    def _free_names(self, label: str) -> dict[Path, Path]:
        """Of the page and the JSON, in this order. Two reports may be archived in the same second."""
        names = (label if number == 1 else f"{label}-{number}" for number in count(1))
        tried = (
            {path: path.with_name(f"{path.stem}-{name}{path.suffix}") for path in (self.html, self.json)}
            for name in names
        )
        return next(found for found in tried if not any(path.exists() for path in found.values()))

    def _name_json_of(self, page: Path, name: str) -> None:
        """The archived page must not offer the JSON of the report that follows, which may be about another cluster, as its own."""
        old, new = (f'<a href="{quote(json_name)}">{escape(json_name)}</a>' for json_name in (self.json.name, name))
        text = page.read_text(encoding="utf-8", errors="surrogateescape")
        write_whole(page, text.replace(old, new).encode(errors="surrogateescape"))

    def require_writable(self) -> None:
        """Raises StateStoreError if writing would; writes nothing."""
        for path in (self.json, self.html):
            require_writable(path)

    def require_room(self) -> None:
        """Raises BadInputError if a whole run may need more than is left on the disk."""
        folder = self.json.parent
        total, _used, free = shutil.disk_usage(folder)
        if total and free < _ROOM:
            raise BadInputError(
                f"{folder} has {free >> 20} MiB free, and the report may need {_ROOM >> 20} MiB; free space there, or set another path."
            )

    def write_record(self, record: AnyRecord) -> None:
        """A result of a fleet's run is kept under a name of its own, too, since runs that do something else replace the newest one."""
        text = (json.dumps(as_json(record), indent=1, ensure_ascii=False) + "\n").encode()
        if isinstance(record, Snapshot) and record.fleet:
            write_whole(result_path(self.json, record.fleet), text)
        write_whole(self.json, text)

    def write_page(self, page: str) -> None:
        write_whole(self.html, page.encode())


def read_report(path: Path) -> AnyRecord | None:
    """The record in a file; None if there is none, or it isn't a record. Raises OSError if the file can't be read."""
    try:
        return read_record(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def result_path(path: Path, task: FleetTask) -> Path:
    """Where the newest result of this task is kept, beside the report at ``path``, such as ``state-migrate.json``."""
    label = f"{task.purpose}-{task.version}" if task.version else task.purpose
    return path.with_name(f"{path.stem}-{re.sub(r'[^A-Za-z0-9._-]', '-', label)}.json")


def report_identity(path: str) -> str:
    """The same for all paths that name the same report: ``r.html``, ``./r.html`` and ``r.json``."""
    whole = os.path.realpath(os.path.expanduser(os.path.expandvars(path)))
    return re.sub(r"(?i)\.(html?|json)$", "", whole)
