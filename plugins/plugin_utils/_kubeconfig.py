# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which cluster a task means: its kubeconfig on the controller, as kubernetes.core's action plugin finds it, or that of the host's own variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action.normal import ActionModule as NormalAction

# Any of these options names a cluster.
_NAME_A_CLUSTER = ("kubeconfig", "context", "host", "api_key", "servers")
_OF_HOST = {
    name: f"rolling_upgrade_{name}" for name in ("kubeconfig", "context", "tls_server_name", "servers", "cluster_name")
}


def find_cluster(action: Any, variables: Mapping[str, Any]) -> None:
    """In an ad-hoc call, each host's own variables name its cluster, as in the role."""
    args = action._task.args
    if "module_name" not in context.CLIARGS or any(args.get(name) for name in _NAME_A_CLUSTER):
        return
    own = {
        option: action._templar.template(variables[name]) for option, name in _OF_HOST.items() if variables.get(name)
    }
    action._task.args = {**{option: value for option, value in own.items() if value}, **args}


def find_kubeconfig(action: Any) -> None:
    """Has the module read the file below ``files/`` that the task means, decrypted if Ansible Vault encrypted it.

    Only where the module runs on the controller; elsewhere the path is that of a file there. What isn't found is left to the module.
    """
    given = action._task.args.get("kubeconfig")
    if not isinstance(given, str) or not given or action._connection.transport != "local":
        return
    found = [_real_path(action, path) for path in given.split(os.pathsep)]
    action._task.args = {**action._task.args, "kubeconfig": os.pathsep.join(found)}


def _real_path(action: Any, path: str) -> str:
    try:
        found = action._find_needle("files", path)
    except AnsibleError:
        return path
    try:
        return str(action._loader.get_real_file(found, decrypt=True))
    except AnsibleError as error:
        raise AnsibleActionFail(
            f"The kubeconfig {found} can't be read: it is encrypted with Ansible Vault, and none of the vault passwords given fits; give the "
            "right one, for instance with --vault-password-file."
        ) from error


class KubeconfigAction(NormalAction):  # type: ignore[misc]  # ansible-core is not typed for this
    """Runs the module with the kubeconfig that the task means."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        find_cluster(self, task_vars or {})
        find_kubeconfig(self)
        result: dict[str, Any] = super().run(tmp, task_vars)
        return result
