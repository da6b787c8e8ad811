# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Closes the report of a run that ended abruptly: killed, or with its only host unreachable. Then no task of the role can.

A process of its own waits until ansible-playbook has ended. Only Linux can tell it that without guessing.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path


def watch(playbook: int, report: Path, run: str) -> None:
    """Starts that process. ``playbook``: the pid of ansible-playbook. ``run``: when the run began, by the report."""
    try:
        handle = os.pidfd_open(playbook)
    except (AttributeError, OSError):
        return
    try:
        subprocess.Popen(
            [sys.executable, __file__, str(handle), str(report), run],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[handle],
            start_new_session=True,
        )
    except OSError:
        pass
    finally:
        os.close(handle)


def _wait(handle: int) -> None:
    ended = select.poll()
    ended.register(handle, select.POLLIN)
    ended.poll()


def _is_open(report: Path, run: str) -> bool:
    try:
        runs = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))["runs"]
        return bool(runs[-1]["started"] == run and runs[-1]["finished"] is None)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def main(handle: str, path: str, run: str) -> None:
    _wait(int(handle))
    report = Path(path)
    if not _is_open(report, run):
        return
    # Imported only now: nearly every run closes its report itself.
    sys.path.insert(0, str(Path(__file__).parents[6]))
    from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import millis_text, utc_now
    from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.files import ReportFiles
    from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.store import close

    close(ReportFiles(str(report)), run, millis_text(utc_now()))


if __name__ == "__main__":
    main(*sys.argv[1:4])
