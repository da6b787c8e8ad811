#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes the screenshots of reports for the README and the guides: docs/docsite/images/report-*.png.

A check, an audit and an upgrade run in the playground. The page of a rotation and that of a fleet show the data of the unit tests.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for path in (ROOT, ROOT / ".ansible" / "collections"):
    sys.path.insert(0, str(path))

from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.page import fleet_page  # noqa: E402
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.run import begun, ended, folded, wave_finished  # noqa: E402
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._fleet.waves import planned_waves  # noqa: E402
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.page import page  # noqa: E402
from ansible_collections.kube_storage.upgrade.plugins.plugin_utils._report.record import read_record  # noqa: E402
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.fleet import fleet_data  # noqa: E402
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.plugin_utils.report_data import at  # noqa: E402

from tests.demo.play import FOLDER, NEW, playground  # noqa: E402
from tests.integration.support import browser  # noqa: E402

IMAGES = ROOT / "docs" / "docsite" / "images"
RECORDS = ROOT / "tests" / "unit" / "plugins" / "plugin_utils" / "records"
KINDS = ("upgrade", "check", "audit", "rotation", "fleet")
WIDTH, HEIGHT = 1000, 1000


def main() -> int:
    with tempfile.TemporaryDirectory() as temporary:
        pages = Path(temporary)
        run_playbooks(pages)
        rotation = read_record(json.loads((RECORDS / "key_rotation.json").read_text(encoding="utf-8")))
        (pages / "rotation.html").write_text(page(rotation, "rotation.json"), encoding="utf-8")
        (pages / "fleet.html").write_text(fleet(), encoding="utf-8")
        asyncio.run(photograph(pages))
    return 0


def run_playbooks(pages: Path) -> None:
    """Writes the pages of a check, an audit and an upgrade in the playground."""
    cluster, version = "-e rolling_upgrade_cluster_name=playground", f"-e rolling_upgrade_version={NEW}"
    commands = {
        "check": f"ansible-playbook kube_storage.upgrade.check {version} {cluster}",
        "audit": f"ansible-playbook kube_storage.upgrade.audit {cluster}",
        "upgrade": f"ansible-playbook upgrade.yml {cluster}",
    }
    with playground() as environment:
        for kind, command in commands.items():
            words = [*command.split(), "-e", f"rolling_upgrade_report_path={pages / kind}.html"]
            subprocess.run(words, cwd=FOLDER, env=environment, check=True)


def fleet() -> str:
    """A page with a cluster in each state."""
    reports = {
        "paris-1": fleet_data.report(),
        "paris-2": fleet_data.stale(),
        "lima-1": fleet_data.blocked(),
        "lima-2": fleet_data.dead(),
        "oslo-1": fleet_data.report(states="767"),
        "oslo-2": fleet_data.report(),
    }
    waves = planned_waves(list(reports), ["canary"], {"canary": ["oslo-2"], "all": list(reports)})
    record = folded(begun(None, "run-1", "audit", NEW, waves, at(0)), reports, at(20))
    for number, _wave in enumerate(waves):
        record = wave_finished(record, number, at(21))
    return fleet_page(ended(record, at(21)))


async def photograph(pages: Path) -> None:
    async with browser.browser(str(browser.find())) as shown:
        for kind in KINDS:
            await shown.look(width=1400 if kind == "fleet" else WIDTH, scheme="light")
            await shown.open((pages / f"{kind}.html").as_uri())
            await shown.picture(IMAGES / f"report-{kind}.png", height=HEIGHT)
            print(f"docs/docsite/images/report-{kind}.png")


if __name__ == "__main__":
    sys.exit(main())
