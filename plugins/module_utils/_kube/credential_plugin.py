# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs the credential plugin of a kubeconfig's user (client.authentication.k8s.io, ExecCredential), as kubectl does.

What a plugin prints may hold a token, so it is never shown.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import printable
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.kubeconfig import KubeContext

_TIMEOUT = 60.0
_EXTENSION = "client.authentication.k8s.io/exec"


@dataclass(frozen=True)
class Issued:
    """What a plugin gave: a token, a client certificate with its key (PEM), or both; ``until`` when it says they end."""

    token: str | None = field(default=None, repr=False)
    certificate: str | None = field(default=None, repr=False)
    key: str | None = field(default=None, repr=False)
    until: datetime | None = None


def run_plugin(context: KubeContext) -> Issued:
    """Runs the plugin of the context's user, without a terminal. Raises BadInputError if it gives no credentials.

    May take as long as the plugin does, at most a minute.
    """
    plugin: Mapping[str, Any] = context.user["exec"]
    asks_for = plugin.get("apiVersion")
    if not plugin.get("command") or not asks_for:
        raise BadInputError(
            f"The credential plugin of {context.whose} has no {'apiVersion' if plugin.get('command') else 'command'}; "
            "complete its entry exec."
        )
    which = f"The credential plugin '{_shown(plugin)}' of {context.whose}"
    if plugin.get("interactiveMode") == "Always":
        raise BadInputError(
            f"{which} requires a terminal (interactiveMode: Always), and there is none; use other credentials."
        )
    output = _output_of(plugin, _environment(context, plugin), which)
    return _issued(output, str(asks_for), which)


def _shown(plugin: Mapping[str, Any]) -> str:
    """The command without its arguments, as any of them may be a secret."""
    return printable(str(plugin["command"]))


def _environment(context: KubeContext, plugin: Mapping[str, Any]) -> dict[str, str]:
    spec: dict[str, Any] = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = _cluster_info(context.cluster)
    about = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": spec}
    own = {str(item["name"]): str(item.get("value") or "") for item in plugin.get("env") or () if item.get("name")}
    return {**os.environ, **own, "KUBERNETES_EXEC_INFO": json.dumps(about)}


def _cluster_info(cluster: Mapping[str, Any]) -> dict[str, Any]:
    names = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")
    found = {name: cluster[name] for name in names if cluster.get(name)}
    path = cluster.get("certificate-authority")
    if path and "certificate-authority-data" not in found:
        with open(str(path), "rb") as file:
            found["certificate-authority-data"] = base64.b64encode(file.read()).decode()
    for extension in cluster.get("extensions") or ():
        if extension.get("name") == _EXTENSION:
            found["config"] = extension.get("extension")
    return found


def _output_of(plugin: Mapping[str, Any], environment: Mapping[str, str], which: str) -> bytes:
    command = [str(plugin["command"]), *(str(argument) for argument in plugin.get("args") or ())]
    try:
        # run_command() belongs to an AnsibleModule, which isn't known here.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=_TIMEOUT, check=False
        )
    except FileNotFoundError as error:
        hint = printable(str(plugin.get("installHint") or "")).rstrip(".")
        raise BadInputError(
            f"{which} is not on the host where the task runs; install it there{f' ({hint})' if hint else ''}."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise BadInputError(f"{which} did not end within {_TIMEOUT:g} s; try it by hand.") from error
    except OSError as error:
        raise BadInputError(f"{which} can't be run: {error.strerror}; check the command.") from error
    if done.returncode < 0:
        raise BadInputError(f"{which} was ended by {signal.Signals(-done.returncode).name}; try it by hand.")
    if done.returncode:
        raise BadInputError(
            f"{which} failed with exit code {done.returncode}; run it by hand to see why (what it prints may hold a token, so it "
            "isn't shown)."
        )
    return done.stdout


def _issued(output: bytes, asked: str, which: str) -> Issued:
    try:
        document = json.loads(output)
    except ValueError:
        document = None
    status = document.get("status") if isinstance(document, dict) else None
    if not isinstance(document, dict) or document.get("kind") != "ExecCredential":
        raise BadInputError(
            f"{which} did not print an ExecCredential; run it by hand, and check the command and its arguments."
        )
    if document.get("apiVersion") != asked:
        raise BadInputError(
            f"{which} answers in {printable(str(document.get('apiVersion')))}, but the kubeconfig asks for {printable(asked)}; set "
            "apiVersion there to a version that the plugin supports, or update the plugin."
        )
    status = status if isinstance(status, dict) else {}
    token, certificate, key = (
        str(status[name]) if status.get(name) else None for name in ("token", "clientCertificateData", "clientKeyData")
    )
    if bool(certificate) != bool(key):
        raise BadInputError(
            f"{which} returned a client certificate without its key, or a key alone; update the plugin."
        )
    if not token and not certificate:
        raise BadInputError(
            f"{which} returned neither a token nor a client certificate; run it by hand, and log in if it asks to."
        )
    return Issued(token, certificate, key, _time(status.get("expirationTimestamp"), which))


def _time(text: Any, which: str) -> datetime | None:
    if not text:
        return None
    try:
        # Without a fraction, which Go writes with nine digits and Python reads with at most six.
        found = datetime.fromisoformat(re.sub(r"\.\d+", "", str(text)).replace("Z", "+00:00"))
    except ValueError as error:
        raise BadInputError(
            f"{which} returned an expirationTimestamp that is not a time (RFC 3339); update the plugin."
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)
