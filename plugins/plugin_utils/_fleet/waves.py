# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which order the clusters of a fleet have their turn: canaries first, then shares or groups, then the rest. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError

_SHARE = re.compile(r"(\d+(?:\.\d+)?) ?%")
_WHAT_A_WAVE_IS = 'a number of clusters, a share such as "10%", or the name of a group or host of the inventory'


@dataclass
class Wave:
    """Clusters that have their turn together, by inventory name; ``name`` is what the user calls the wave."""

    name: str
    clusters: list[str] = field(default_factory=list)


def planned_waves(clusters: Sequence[str], wanted: Sequence[Any], groups: Mapping[str, Sequence[str]]) -> list[Wave]:
    """The waves that the user wants, and one of all clusters that these leave. Without any, all are one wave.

    ``groups``: the inventory's. A cluster belongs to the first wave that has it. A wave is empty if its group has no cluster
    in this play. Raises BadInputError for what is not a wave.
    """
    rest = list(dict.fromkeys(clusters))
    total, waves = len(rest), []
    for wanted_wave in wanted:
        taken = _taken(wanted_wave, rest, total, groups)
        rest = [name for name in rest if name not in taken]
        waves.append(Wave(str(wanted_wave), [name for name in clusters if name in taken]))
    if rest or not waves:
        waves.append(Wave("the rest" if waves else "all", rest))
    return waves


def _taken(wanted_wave: Any, rest: Sequence[str], total: int, groups: Mapping[str, Sequence[str]]) -> set[str]:
    """The clusters of one wave, among those that no earlier one has."""
    text = str(wanted_wave).strip()
    share = _SHARE.fullmatch(text)
    if share:
        if not 0 < float(share[1]) <= 100:
            raise BadInputError(
                f"The wave '{text}' is not a share of the fleet; give more than 0 and at most 100 percent."
            )
        return set(rest[: math.ceil(total * float(share[1]) / 100)])
    if re.fullmatch(r"-?\d+", text) and not isinstance(wanted_wave, bool):
        if int(text) < 1:
            raise BadInputError(f"The wave '{text}' has no clusters; a number of clusters must be at least 1.")
        return set(rest[: int(text)])
    if text in groups:
        return set(groups[text]) & set(rest)
    if text in groups.get("all", ()):
        return {text} & set(rest)
    raise BadInputError(
        f"The wave '{text}' is neither a group nor a host of the inventory; a wave is {_WHAT_A_WAVE_IS}."
    )
