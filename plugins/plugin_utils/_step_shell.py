# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the shell of a master can say about the markers of steps, without starting a module there. Pure.

Only whether there are none; anything else is left to the module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._rolling_upgrade.step_markers import (
    ROOT_FOLDER,
    USER_FOLDER,
    is_id,
)

_FOLDERS = (ROOT_FOLDER, USER_FOLDER.format("*"))
# Shows that the shell has run the whole command.
_LOOKED, _GONE = "looked", "removed"


def command(args: Mapping[str, Any], *, check_mode: bool) -> str | None:
    """Removes the markers of steps that have ended, if any are given, and looks for others; None if only the module can do this."""
    state, ids = args.get("state") or "looked", [str(identity) for identity in args.get("ids") or ()]
    if not all(is_id(identity) for identity in ids):
        return None
    if state == "looked" and not ids:
        removes = ""
    elif state == "ended" and ids and not check_mode:
        files = " ".join(f"{folder}/{identity}.json" for identity in ids for folder in _FOLDERS)
        removes = f'for file in {files}; do test -e "$file" && rm -f -- "$file" && echo {_GONE}; done; '
    else:
        return None
    all_files = " ".join(f"{folder}/*.json" for folder in _FOLDERS)
    return f'{removes}for file in {all_files}; do test -e "$file" && echo "$file"; done; echo {_LOOKED}'


def result(args: Mapping[str, Any], output: str) -> dict[str, Any] | None:
    """What the module would return if no marker is left; None if one is, or if that is unknown."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if not lines or lines[-1] != _LOOKED or set(lines[:-1]) - {_GONE}:
        return None
    return {"changed": _GONE in lines, "steps": [], "processes": [], "complete": True}
