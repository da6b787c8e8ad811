#!/usr/bin/env python3
# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three masters to play with: starts them, prints what to try, opens a shell, and takes everything down when that shell ends.

With arguments, it runs these as one command of the shell instead: ``play.py 'ansible-playbook kube_storage.upgrade.audit'``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.control_plane.build import BuildError  # noqa: E402
from tests.control_plane.cluster import Cluster, ClusterError  # noqa: E402
from tests.control_plane.hosts import HostError  # noqa: E402
from tests.demo.run import NEW, OLD, fill  # noqa: E402

FOLDER = ROOT / "build" / "play"
LESSONS = f"""
Three masters are up, full of objects. They run {NEW} and emulate {OLD}, so they store what {OLD} would.
This shell has everything in its PATH, and KUBECONFIG is set.

  1. Look: in which version does each API server store each resource? Do all agree?
       ansible localhost -m kube_storage.upgrade.storage_version_hashes

  2. What does etcd hold, and how much of it is stale already? (An operator has moved its CRD on.)
       ansible-playbook kube_storage.upgrade.audit

  3. Would {NEW} read everything, and would the migration succeed?
       ansible-playbook kube_storage.upgrade.check -e rolling_upgrade_version={NEW}

  4. Upgrade, rewrite, prove. upgrade_one_master.yml is how one master here is upgraded.
       ansible-playbook upgrade.yml
     Run it again: nothing changes. report.html shows what happened.

  5. Break it: stop a master, and see that nothing is written while one API server is missing.
       cluster kill cluster master-2
       ansible localhost -m kube_storage.upgrade.storage_migrate
       cluster start cluster master-2

To try an installation of your own, in another terminal of root on this machine:
     export K8S_AUTH_KUBECONFIG={{folder}}/cluster/kubeconfig
     ansible localhost -m kube_storage.upgrade.storage_version_hashes
     ansible-playbook -i {{folder}}/inventory.yml {{folder}}/upgrade.yml
   For a playbook of your own, {{folder}} has the inventory and the tasks that upgrade one master.

Leave this shell with exit or Ctrl-D: that takes everything down. The report stays in build/play.
"""


def main() -> int:
    print(
        f"Starting one etcd and three kube-apiservers of {NEW} that emulate {OLD}, each on a host of its own …",
        flush=True,
    )
    try:
        with playground() as environment:
            print(LESSONS.format(folder=FOLDER), flush=True)
            command = ["-c", " ".join(sys.argv[1:])] if sys.argv[1:] else ["--norc", "-i"]
            done = subprocess.run(["bash", *command], cwd=FOLDER, env=environment, check=False)
    except (BuildError, ClusterError, HostError) as error:
        print(f"The playground can't start: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return done.returncode if sys.argv[1:] else 0


@contextmanager
def playground() -> Iterator[dict[str, str]]:
    """The environment of a shell in FOLDER, where the masters are up, and ready to be upgraded, until it ends."""
    # What an earlier playground left is about other masters.
    shutil.rmtree(FOLDER, ignore_errors=True)
    cluster = Cluster.up(FOLDER / "cluster", masters=3, version=OLD, owner_pid=os.getpid())
    try:
        fill(cluster)
        yield prepare(cluster)
    finally:
        cluster.down()
        for name in ("cluster", "snapshots"):
            shutil.rmtree(FOLDER / name, ignore_errors=True)
        print("Everything is taken down.", flush=True)


def lessons() -> list[str]:
    """The commands that it prints, in order."""
    return _indented(7)


def elsewhere() -> list[str]:
    """Those that it prints for another terminal."""
    return _indented(5)


def _indented(by: int) -> list[str]:
    lines = LESSONS.format(folder=FOLDER).splitlines()
    return [line.strip() for line in lines if re.match(rf" {{{by}}}(?=(cluster|export|ansible))", line)]


def prepare(cluster: Cluster) -> dict[str, str]:
    """Writes the inventory, the playbook and the settings beside the cluster; the environment of the shell."""
    programs = Path(sys.executable).parent
    (FOLDER / "bin").mkdir(exist_ok=True)
    control = ROOT / "tests" / "control_plane" / "cluster.py"
    helper = FOLDER / "bin" / "cluster"
    # From another terminal, too, it finds what was built, and Go.
    settings = {name: os.environ[name] for name in ("HOME", "PATH", "XDG_CACHE_HOME") if name in os.environ}
    exported = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    command = f'env {exported} {shlex.quote(sys.executable)} {shlex.quote(str(control))} "$@"'
    helper.write_text(f"#!/bin/sh\nexec {command}\n", encoding="utf-8")
    helper.chmod(0o755)
    masters = {name: {"ansible_host": cluster.data["masters"][name]["address"]} for name in cluster.masters}
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "rolling_upgrade_etcd": cluster.etcd,
    }
    inventory = {"all": {"vars": variables, "children": {"kube_control_plane": {"hosts": masters}}}}
    (FOLDER / "inventory.yml").write_text(json.dumps(inventory, indent=2) + "\n", encoding="utf-8")
    (FOLDER / "ansible.cfg").write_text(
        f"[defaults]\ninventory = inventory.yml\ncollections_path = {ROOT / '.ansible' / 'collections'}\n",
        encoding="utf-8",
    )
    (FOLDER / "upgrade_one_master.yml").write_text(
        "- name: Replace this master's kube-apiserver with the new release\n"
        "  ansible.builtin.command:\n"
        f"    argv: [{helper}, upgrade, {cluster.folder}, "
        '"{{ inventory_hostname }}", --version, "{{ rolling_upgrade_version }}"]\n'
        "  changed_when: true\n",
        encoding="utf-8",
    )
    (FOLDER / "upgrade.yml").write_text(
        "- name: Upgrade the control plane\n"
        "  hosts: kube_control_plane\n"
        "  gather_facts: false\n"
        "  tasks:\n"
        "    - name: Upgrade, migrate, prove\n"
        "      ansible.builtin.import_role:\n"
        "        name: kube_storage.upgrade.rolling_upgrade\n"
        "      vars:\n"
        f'        rolling_upgrade_version: "{NEW}"\n'
        '        rolling_upgrade_tasks_file: "{{ playbook_dir }}/upgrade_one_master.yml"\n'
        '        rolling_upgrade_report_path: "{{ playbook_dir }}/report.html"\n'
        '        rolling_upgrade_etcd_snapshot_path: "{{ playbook_dir }}/snapshots"\n',
        encoding="utf-8",
    )
    environment = {name: value for name, value in os.environ.items() if name != "ANSIBLE_CONFIG"}
    return {
        **environment,
        "PATH": f"{FOLDER / 'bin'}:{FOLDER / 'cluster' / 'bin'}:{programs}:{os.environ['PATH']}",
        "KUBECONFIG": str(cluster.kubeconfig),
        "K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig),
        "PS1": "play:\\w$ ",
    }


if __name__ == "__main__":
    sys.exit(main())
