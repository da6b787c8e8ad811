# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible and ansible-playbook from a process that has imported them, and keeps the modules that they packed.

A run of its own spends 2 s of CPU on that, which is most of what many tests cost. Only what Ansible itself keeps in its temporary
folder outlives a run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.integration.support.fork_server import ROOT, Server, Started, compiled_files, serve

# Some tests have settings of their own.
_SERVERS_AT_MOST = 3
_servers: dict[str, Server] = {}


def start(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], output: IO[Any], errors: IO[Any]) -> Started:
    """Starts a program of Ansible that writes to these files."""
    return Started(_server(env).path, command, cwd, env, [output, errors])


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """As subprocess.run would run this program of Ansible, with its output captured as text."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        code = start(command, cwd=cwd, env=env, output=output, errors=errors).wait(timeout)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(command, code, output.read().decode(), errors.read().decode())


def _server(env: Mapping[str, str]) -> Server:
    """The one for Ansible's settings, which it reads when it is imported."""
    settings = {name: value for name, value in env.items() if name.startswith(("ANSIBLE_", "PYTHON"))}
    key = json.dumps(settings, sort_keys=True)
    if key not in _servers:
        while len(_servers) >= _SERVERS_AT_MOST:
            _servers.pop(next(iter(_servers))).close()
        _servers[key] = Server(Path(__file__), env)
    _servers[key] = _servers.pop(key)  # The one used last is closed last.
    return _servers[key]


def _remember_compiled() -> None:
    """Ansible compiles a collection's plugins in each process that uses them."""
    from ansible.utils.collection_loader import _collection_finder

    collections = ROOT / ".ansible" / "collections" / "ansible_collections"
    known = compiled_files([collections / "kube_storage" / "upgrade" / "plugins"])

    def compiled(source: bytes, *arguments: Any, **options: Any) -> Any:
        found = known.get(source)
        return found if found is not None else compile(source, *arguments, **options)

    _collection_finder.compile = compiled


def _load_plugins() -> None:
    """Ansible loads plugins in the process of each task."""
    import ansible.cli
    from ansible.plugins import loader

    loader.init_plugin_loader()
    ansible.cli.init_plugin_loader = lambda *_arguments: None
    for kind in (loader.action_loader, loader.inventory_loader, loader.vars_loader):
        list(kind.all(class_only=True))
    for jinja_plugins in (loader.filter_loader, loader.test_loader):
        list(jinja_plugins.all())
    for kind, names in (
        (loader.connection_loader, ("local", "ssh")),
        (loader.shell_loader, ("sh",)),
        (loader.become_loader, ("sudo",)),
        (loader.callback_loader, ("default",)),
        (loader.strategy_loader, ("linear",)),
    ):
        for name in names:
            kind.get(f"ansible.builtin.{name}", class_only=True)
    own = ROOT / ".ansible" / "collections" / "ansible_collections" / "kube_storage" / "upgrade" / "plugins" / "action"
    for path in own.glob("*.py"):
        loader.action_loader.get(f"kube_storage.upgrade.{path.stem}", class_only=True)


def _programs() -> dict[str, Callable[[list[str]], Any]]:
    from ansible import constants as _constants  # noqa: F401
    from ansible.cli.adhoc import AdHocCLI
    from ansible.cli.playbook import PlaybookCLI

    return {"ansible": AdHocCLI.cli_executor, "ansible-playbook": PlaybookCLI.cli_executor}


def _run(programs: Mapping[str, Callable[[list[str]], Any]], command: list[str]) -> int:
    try:
        programs[Path(command[0]).name](command)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    return 0


if __name__ == "__main__":
    sys.path[:2] = [str(Path(sys.executable).parent)]  # As for the programs themselves.
    programs = _programs()
    _remember_compiled()
    _load_plugins()
    serve(lambda command: _run(programs, command))
