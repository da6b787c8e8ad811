# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which feature gates and flags the control plane of a release accepts, from the data. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.kube_storage.upgrade.plugins.module_utils._data import components as data
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.releases import within

API_SERVER = "kube-apiserver"
COMPONENTS = (API_SERVER, "kube-controller-manager", "kube-scheduler")
# The flag with which API servers pass on requests to those of another release.
PEER_CA = "peer-ca-file"
# These stand for all gates of a stage.
_GROUPS = ("AllAlpha", "AllBeta")


@dataclass(frozen=True)
class ComponentData:
    """What the data say. ``releases``: those that were asked for gates; ``flags_of``: those of which each program was asked for flags.

    None where they say nothing.
    """

    releases: tuple[str, ...] = field(default_factory=lambda: tuple(data.RELEASES))
    flags_of: Mapping[str, Sequence[str]] = field(default_factory=lambda: data.FLAGS_OF)
    known_gates: Mapping[str, str] = field(default_factory=lambda: data.GATES, repr=False)
    locked: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: data.LOCKED, repr=False)
    flags: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: data.FLAGS, repr=False)

    def lost_gate(self, gate: str, target: str) -> str | None:
        """The last release that knows a gate which the target doesn't know; None if it does, or if no release is known to."""
        return _lost(self.releases, self.known_gates.get(gate, ""), target)

    def lost_flag(self, component: str, flag: str, target: str) -> str | None:
        """The same for a flag; None also if that release was not asked for the component's flags."""
        asked = self.flags_of.get(component, ())
        return _lost(asked, self.flags.get(component, {}).get(flag, ""), target) if target in asked else None

    def locked_to(self, gate: str, target: str) -> bool | None:
        """The only value that a gate may have; None if it may have both."""
        for value in (True, False):
            if within(target, self.locked.get(str(value).lower(), {}).get(gate, "")):
                return value
        return None


def _lost(asked: Iterable[str], spans: str, target: str) -> str | None:
    if not spans or within(target, spans):
        return None
    known = [release for release in asked if within(release, spans)]
    return known[-1] if known else None


def is_group(gate: str) -> bool:
    """Whether it is no gate, but stands for all of a stage."""
    return gate in _GROUPS
