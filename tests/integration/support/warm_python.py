# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Python for Ansible's modules that has imported the libraries they use, and compiled what Ansible packs.

Starting a module costs 0.7 s of CPU, of which this leaves 0.2 s. A module is what Ansible packed, nothing else: its own code and
Ansible's are compiled before, not imported, and a source that isn't known is compiled then. Not for tests that stop or kill
modules, or are about how these start.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import runpy
import shutil
import sys
import sysconfig
import tempfile
import threading
import zipimport
from pathlib import Path
from types import CodeType

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.integration.support.fork_server import ROOT, Server, compiled_files, serve

_LIBRARIES = ("asyncio", "concurrent.futures.thread", "kubernetes.dynamic", "uuid", "yaml", "zipfile")
# What Ansible calls as the interpreter: hands a module to the server. The real Python runs anything else, and modules for which
# the environment changes Python itself.
_INTERPRETER = """#!{python} -IS
import _signal, _socket, marshal, os, sys
def cold():
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
own = {{"PYTHONHOME", "PYTHONPATH"}} & set(os.environ)
if own or len(sys.argv) != 2 or "/AnsiballZ_" not in sys.argv[1]:
    cold()
server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
try:
    server.connect({path!r})
except OSError:
    cold()
data = marshal.dumps((sys.argv[1:], os.getcwd(), dict(os.environ)))
handles = b"".join(handle.to_bytes(4, sys.byteorder) for handle in range(3))
server.sendmsg([len(data).to_bytes(8, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handles)])
server.sendall(data)
def line():
    text = b""
    while not text.endswith(b"\\n"):
        part = server.recv(1)
        if not part:
            os._exit(1)
        text += part
    return int(text)
pid = line()
for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
    _signal.signal(number, lambda number, frame: os.kill(pid, number))
code = line()
os._exit(code if code >= 0 else 128 - code)
"""


@functools.cache
def interpreter() -> str:
    """The path of the program to set as ``ansible_python_interpreter``."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    server = Server(Path(__file__), env)
    folder = Path(tempfile.mkdtemp(prefix="warm-python-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    program = folder / "python3"
    program.write_text(_INTERPRETER.format(python=sys.executable, path=server.path), encoding="utf-8")
    program.chmod(0o755)
    return str(program)


def _remember_compiled() -> None:
    """Has the importer of Ansible's archives find the code of each source that is the same as in a file here."""
    collections = ROOT / ".ansible" / "collections" / "ansible_collections"
    ansible = Path(sysconfig.get_path("purelib")) / "ansible"
    folders = [ansible / "module_utils", ansible / "modules"]
    folders += [collections / "kube_storage/upgrade/plugins", collections / "kubernetes/core/plugins/module_utils"]
    known = compiled_files(folders)
    compile_source = zipimport._compile_source  # type: ignore[attr-defined]

    def compiled(pathname: str, source: bytes) -> CodeType:
        found = known.get(bytes(source))
        return found if found is not None else compile_source(pathname, source)

    zipimport._compile_source = compiled  # type: ignore[attr-defined]


def _run(command: list[str]) -> int:
    sys.path[0] = os.path.dirname(command[0])
    try:
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    finally:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    return 0


if __name__ == "__main__":
    del sys.path[1]
    for name in _LIBRARIES:
        importlib.import_module(name)
    _remember_compiled()
    serve(_run)
