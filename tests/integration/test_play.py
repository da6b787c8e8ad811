# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``make play``: each command that it prints does what is said beside it, and nothing is left at the end."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo import play

ROOT = Path(__file__).resolve().parents[2]


def from_another_terminal(commands: list[str]) -> str:
    """These commands as one, with nothing of the playground's shell but an installation of the collection."""
    words = [
        "env",
        "-i",
        "HOME=/nonexistent",
        f"PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG=C.UTF-8",
    ]
    words += [
        f"ANSIBLE_COLLECTIONS_PATH={ROOT / '.ansible' / 'collections'}",
        "ANSIBLE_LOCAL_TEMP=/tmp",
        "bash",
        "-ec",
        "; ".join(commands),
    ]
    return shlex.join(words)


@pytest.mark.long
def test_the_playground_as_printed() -> None:
    commands = play.lessons()
    assert len(commands) == 7 and len(play.elsewhere()) == 3
    upgrade = commands.index("ansible-playbook upgrade.yml")
    commands.insert(upgrade + 1, commands[upgrade])  # "Run it again: nothing changes."
    commands[upgrade] = from_another_terminal(play.elsewhere())
    script = "\n".join(
        f'printf "%s\\n" {shlex.quote(f">>> {command}")}; {command}; echo "=== $?"' for command in commands
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "demo" / "play.py"), script],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    steps = [step.rpartition("=== ") for step in done.stdout.split(">>> ")[1:]]
    statuses = [int(status.split()[0]) for _said, _mark, status in steps]
    said = [text for text, _mark, _status in steps]
    refused = next(
        number
        for number, text in enumerate(said)
        if text.startswith("ansible localhost -m kube_storage.upgrade.storage_migrate")
    )
    assert [number for number, status in enumerate(statuses) if status] == [refused], done.stdout[-4000:]
    assert "3 API servers agree on the storage versions of" in said[0]
    assert "60 stale" in said[1], said[1]
    assert "0 blockers" in said[2], said[2]
    assert "Proven from etcd" in said[upgrade], said[upgrade]
    assert said[upgrade + 1].count("changed=0") == 3, said[upgrade + 1]
    assert "Nothing was migrated, because the API servers don't agree" in said[refused]
    assert done.stdout.rstrip().endswith("Everything is taken down.")
    assert {path.name for path in play.FOLDER.iterdir()} == {
        "ansible.cfg",
        "bin",
        "inventory.yml",
        "report.html",
        "report.json",
        "upgrade.yml",
        "upgrade_one_master.yml",
    }
