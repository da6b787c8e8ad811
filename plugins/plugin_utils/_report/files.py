# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two files of a report, on the controller: found, locked, read, replaced, and put aside."""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state_store import write_whole
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import FORMAT, Record


class ReportFiles:
    """``report.html`` and ``report.json``, whichever of the two is named."""

    def __init__(self, path: str) -> None:
        given = Path(path).expanduser().absolute()
        if given.is_dir() or path.endswith(os.sep):
            raise BadInputError(f"The report can't be written to {path}, which is a folder; name a file in it.")
        base = given.with_suffix("") if given.suffix.lower() in (".html", ".htm", ".json") else given
        suffix = given.suffix if given.suffix.lower() in (".html", ".htm") else ".html"
        self.html = base.with_name(base.name + suffix)
        self.json = base.with_name(base.name + ".json")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hosts of a play write at the same time; the folder is what they lock, so that no lock file is left."""
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

    def read(self) -> Record | None:
        """The record so far; None if there is none that can be understood."""
        try:
            found = json.loads(self.json.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            return None
        return found

    def put_aside(self, label: str, now: str) -> Path | None:
        """Renames what is there, so that it is kept; returns where its JSON is now."""
        label = re.sub(r"[^A-Za-z0-9._-]", "-", f"{label}-{now[:19]}")
        moved = None
        for path in (self.html, self.json):
            if path.exists():
                target = path.with_name(f"{path.stem}-{label}{path.suffix}")
                os.replace(path, target)
                moved = target
        return moved

    def write(self, record: Record, page: str) -> None:
        """The JSON first: it is what a next run goes on with."""
        write_whole(self.json, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode())
        write_whole(self.html, page.encode())
