# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How components are started: the flags of a command line, and those in kubeadm's ClusterConfiguration. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_GATES = "feature-gates"


@dataclass(frozen=True)
class CommandLine:
    """How a component is started. ``where``: for a sentence, such as ``master-1``. ``flags``: (name, value) in order."""

    component: str
    where: str
    flags: tuple[tuple[str, str], ...]

    @property
    def gates(self) -> dict[str, bool]:
        """The feature gates that it sets; of several settings of one gate, the last one counts."""
        found = {}
        for name, value in self.flags:
            if name == _GATES:
                for part in value.split(","):
                    gate, _equals, to = part.partition("=")
                    # Since 1.32 a gate may be for one component: kube:Gate=true (component-base, compatibility/registry.go);
                    # /flagz shows it with an empty one.
                    component, _colon, own = gate.strip().rpartition(":")
                    if own and component in ("", "kube"):
                        found[own] = to.strip().lower() in ("true", "1", "t")
        return found


def flag_name(name: str) -> str:
    """Its usual spelling."""
    return name.replace("_", "-")


def parse_command(component: str, where: str, arguments: Iterable[str]) -> CommandLine:
    """From ``--name=value``, ``--name value`` and ``--name`` (which is true); anything else is left out.

    Components take underscores in names for dashes (component-base, cli/flag: WordSepNormalizeFunc).
    """
    flags: list[tuple[str, str]] = []
    waiting = ""
    for argument in arguments:
        if argument.startswith("--"):
            if waiting:
                flags.append((waiting, "true"))
            name, equals, value = argument[2:].partition("=")
            name = flag_name(name)
            waiting = "" if equals else name
            if equals:
                flags.append((name, value))
        elif waiting:
            flags.append((waiting, argument))
            waiting = ""
    if waiting:
        flags.append((waiting, "true"))
    return CommandLine(component, where, tuple(flags))


def extra_arguments(section: Any) -> list[tuple[str, str]] | None:
    """(name, value) of extraArgs in a section of ClusterConfiguration: a mapping up to v1beta3, a list of names and values since v1beta4; None without."""
    extra = section.get("extraArgs") if isinstance(section, Mapping) else None
    if isinstance(extra, Mapping):
        return [(flag_name(str(name)), str(value)) for name, value in extra.items()]
    if not isinstance(extra, list):
        return None
    return [
        (flag_name(str(argument.get("name"))), str(argument.get("value")))
        for argument in extra
        if isinstance(argument, Mapping)
    ]
