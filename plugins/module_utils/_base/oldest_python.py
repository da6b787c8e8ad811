# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ends a module that runs in a Python that is too old, with one sentence. errors.py calls it before anything can fail.

RHEL 9's own Python 3.9 is among those: asyncio's locks and events belong to the loop that exists when they are made until 3.10.
"""

from __future__ import annotations

import json
import sys

_OLDEST = (3, 10)


def refusal(version: tuple[int, ...], executable: str) -> str | None:
    """What to tell the user about this Python; None if it will do."""
    if version[:2] >= _OLDEST:
        return None
    needed, found = (".".join(map(str, two)) for two in (_OLDEST, version[:2]))
    return (
        f"kube_storage.upgrade needs Python {needed} or newer where its modules run; this is {found} at {executable}. Install a newer one "
        "there, with the library kubernetes, and set ansible_python_interpreter to it."
    )


def require() -> None:
    """Ends this process, with the result of a failed module, if its Python is too old."""
    found = refusal(tuple(sys.version_info[:2]), sys.executable)
    if found is not None:
        sys.stdout.write(json.dumps({"failed": True, "msg": found, "error": "bad_input"}) + "\n")
        raise SystemExit(1)
