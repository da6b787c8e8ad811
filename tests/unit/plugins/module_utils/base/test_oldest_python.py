# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Issue 17, number 8: a module that runs in a Python that is too old ends with one sentence, except for one that takes any.

No older Python is installed where tests run, so this one says that it is 3.9, and what it has loaded until then must be valid in 3.9.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base import oldest_python

COLLECTION = "ansible_collections.kube_storage.upgrade.plugins"
ROOT = Path(__file__).resolve().parents[5]
# The others are done by their action plugins, on the controller.
MODULES = sorted(
    path.stem
    for path in (ROOT / "plugins" / "modules").glob("*.py")
    if "def main()" in path.read_text(encoding="utf-8")
)
# It runs on masters, in the Python that they have, and needs nothing of the others.
ON_MASTERS = {"upgrade_step"}
AS_OLD = f"""
import collections, importlib, json, sys
import ansible.module_utils.basic, ansible_collections.kubernetes.core.plugins.module_utils.args_common
old = collections.namedtuple("version_info", "major minor micro releaselevel serial")(3, 9, 18, "final", 0)
sys.version_info = old
try:
    importlib.import_module("{COLLECTION}.modules." + sys.argv[1])
finally:
    loaded = [module.__file__ for name, module in sys.modules.items() if name.startswith("{COLLECTION}.")]
    print(json.dumps([file for file in loaded if file]), file=sys.stderr)
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process that finds the collection where this one does."""
    path = os.pathsep.join([str(Path(oldest_python.__file__).parents[6]), *sys.path])
    command = [sys.executable, "-c", script, *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("module", MODULES)
def test_an_old_python_is_named_and_nothing_is_done(module: str) -> None:
    done = run(AS_OLD, module)
    loaded = json.loads(done.stderr.splitlines()[-1])
    for file in loaded:
        ast.parse(Path(file).read_text(encoding="utf-8"), feature_version=(3, 9))
    if module in ON_MASTERS:
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        return
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["failed"] is True and f"this is 3.9 at {sys.executable}" in result["msg"]
    assert "set ansible_python_interpreter" in result["msg"]
    assert any(file.endswith("oldest_python.py") for file in loaded)


def test_a_missing_library_names_the_interpreter() -> None:
    script = f"""
import sys
sys.modules["kubernetes"] = None
from {COLLECTION}.module_utils._kube.auth import open_connection
open_connection({{"host": "https://127.0.0.1:9"}})
"""
    said = run(script).stderr.splitlines()[-1]
    assert f"The Python library kubernetes is needed where this task runs; {sys.executable} lacks it" in said


@pytest.mark.parametrize("reads", ["read_manifest", "read_configuration"])
def test_a_file_of_a_master_needs_the_same_library(reads: str) -> None:
    """PyYAML comes with it; the missing one used to be the whole message."""
    script = f"""
import sys
sys.modules["yaml"] = None
from {COLLECTION}.module_utils._etcd import encryption
encryption.{reads}("{ROOT}/galaxy.yml")
"""
    said = run(script).stderr.splitlines()[-1]
    assert f"The Python library kubernetes is needed where this task runs; {sys.executable} lacks it" in said
