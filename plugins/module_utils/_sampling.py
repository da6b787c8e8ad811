# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Agreement by sampling, where only one address is known: what many fresh connections to it add up to. Pure.

This is weaker than asking each server at its own address, and whatever uses it says so. A load balancer decides
who answers, so a server may never be asked; and between two looks nobody watches a certain server.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._identity_leases import Alive
from ansible_collections.kube_storage.upgrade.plugins.module_utils._storage_versions import ServerReport

EACH_SERVER = "each server"
SAMPLING = "sampling"

# The text form of /flagz changes its delimiter from answer to answer, so that nobody relies on it.
_ADVERTISED = re.compile(r"^advertise-address\s*[:= ]\s*(\S+)", re.MULTILINE)
_STARTED = re.compile(r"^process_start_time_seconds (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class SamplingSettings:
    """``connections``: how many make one look; ``at_once`` of them at a time."""

    connections: int
    at_once: int
    require_identity: bool


@dataclass(frozen=True)
class Identity:
    """What tells one API server's answers from another's; None where it does not say."""

    address: str | None = None
    started: float | None = None

    @property
    def known(self) -> bool:
        return self.address is not None or self.started is not None


@dataclass(frozen=True)
class Sample:
    """What came over one fresh connection.

    ``report`` is None where this server said everything already over another connection of the same look,
    and now no more than that it is ready.
    """

    identity: Identity
    report: ServerReport | None


@dataclass(frozen=True)
class Evidence:
    """What agreement rests on, where not each server was asked at its own address.

    ``servers``: how many there must be, None if nobody knows. ``told_apart``: how many were, None if the answers don't
    give their servers away.
    """

    connections: int
    told_apart: int | None
    servers: int | None

    @property
    def chance_missed(self) -> float | None:
        return None if self.servers is None else chance_missed(self.servers, self.connections)

    def sentence(self) -> str:
        """What it is worth, for people."""
        if self.told_apart is not None:
            what = (
                f"{_servers(self.told_apart)} answered {self.connections} fresh connections to one address, "
                "as many as there must be"
            )
        else:
            what = f"{self.connections} fresh connections to one address were answered, by API servers that can't be told apart"
            if self.chance_missed is not None:
                what += (
                    f"; of {self.servers}, one that is behind a load balancer which spreads evenly was missed with a chance of "
                    f"{percent(self.chance_missed)}"
                )
        return f"Agreement rests on sampling, which proves less than asking each API server at its own address: {what}."

    def as_dict(self) -> dict[str, Any]:
        return {
            "connections": self.connections,
            "told_apart": self.told_apart,
            "servers": self.servers,
            "chance_missed": self.chance_missed,
        }


def chance_missed(servers: int, connections: int) -> float:
    """The chance that some server got none of the connections, if each goes to any of them alike.

    An upper bound: the sum over the servers, as two may be missed at once.
    """
    return min(1.0, servers * (1 - 1 / servers) ** connections) if servers > 1 else 0.0


def percent(chance: float) -> str:
    """``about 0.0005 %``; never rounded to nothing."""
    return f"about {chance * 100:.1g} %" if chance >= 1e-6 else "less than 0.0001 %"


def read_identity(flags: str, metrics: str) -> Identity:
    """From the answers of /flagz and of /metrics or /metrics/slis; empty text where one was refused.

    Of the flags nothing but the advertised address is looked at.
    """
    address: Any = None
    try:
        document = json.loads(flags)
        address = (document.get("flags") or {}).get("advertise-address") if isinstance(document, dict) else None
    except ValueError:
        found = _ADVERTISED.search(flags)
        address = found[1] if found else None
    start = _STARTED.search(metrics)
    try:
        started = float(start[1]) if start else None
    except ValueError:
        started = None
    # Where no address is set, the flag's default tells nothing.
    return Identity(str(address) if address not in (None, "", "<nil>", "0.0.0.0", "::") else None, started)


def judge(
    entry: str,
    samples: Sequence[Sample],
    before: Sequence[Alive],
    after: Sequence[Alive],
    settings: SamplingSettings,
    expected: int | None,
) -> tuple[tuple[ServerReport, ...], tuple[str, ...], Evidence]:
    """(reports, problems, evidence) of one look at the servers behind the address ``entry``.

    Each server that can be told apart has a report of its own, and so has each different answer: what disagrees in a
    single sample disagrees. ``before`` and ``after``: whose Leases were fresh before and after the samples were taken.
    """
    # What failed before it said who it is has a report that tells of it.
    answered = [one for one in samples if one.identity.known or one.report is None or one.report.error is None]
    known = all(one.identity.known for one in answered)
    told = len({one.identity for one in answered}) if known else None
    wanted = expected if expected is not None else len(after) or None
    problems = []
    restarted = sorted({one.name for one in {*before} ^ {*after}})
    if restarted:
        problems.append(f"{', '.join(restarted)} came, went or restarted while samples were taken.")
    if told is None and settings.require_identity:
        problems.append(
            f"The API servers behind {entry} can't be told apart: allow the user to get /flagz and /metrics/slis (the ClusterRole "
            "kube-storage-upgrade-sampling grants that), or set "
            "require_identity=false in sampling to go by the number of connections alone."
        )
    elif told is not None and wanted is None:
        problems.append(
            f"How many API servers are behind {entry} is not known: allow the user to list leases in kube-system (the Role "
            "kube-storage-upgrade-cross-check grants that), or "
            "give expected_servers."
        )
    elif told is not None and wanted is not None and told < wanted:
        problems.append(_too_few(samples, after, told, wanted))
    elif told is not None and wanted is not None and told > wanted:
        problems.append(
            f"{_servers(told)} were told apart in {len(samples)} connections, but there must be {wanted}"
            f"{'' if expected is None else ' (expected_servers)'}."
        )
    return _reports(entry, samples, after), tuple(problems if answered else ()), Evidence(len(samples), told, wanted)


def _too_few(samples: Sequence[Sample], after: Sequence[Alive], told: int, wanted: int) -> str:
    addresses = {one.identity.address for one in samples}
    named = {one.address for one in after}
    unseen = [one.name for one in after if one.address not in addresses]
    missing = f" ({', '.join(unseen)} did not)" if addresses <= named and len(unseen) == len(after) - told else ""
    return (
        f"Only {told} of {_servers(wanted)} answered {len(samples)} fresh connections{missing}; raise the connections of sampling, "
        "or see whether the load balancer sends one client always to the same server."
    )


def _reports(entry: str, samples: Sequence[Sample], after: Sequence[Alive]) -> tuple[ServerReport, ...]:
    """One report for each identity and each different answer, named so that people recognize the server."""
    names: dict[str, list[str]] = {}
    for one in after:
        if one.address:
            names.setdefault(one.address, []).append(one.name)
    distinct: dict[Identity, list[ServerReport]] = {}
    for sample in samples:
        found = distinct.setdefault(sample.identity, [])
        if sample.report is not None and sample.report not in found:
            found.append(sample.report)
    reports: list[ServerReport] = []
    taken: dict[str, int] = {}
    shared = _shared(one.address for one in distinct)
    for identity in sorted(distinct, key=lambda one: (one.address or "", one.started or 0.0)):
        for answer in distinct[identity]:
            label = _label(identity, names, shared)
            taken[label] = taken.get(label, 0) + 1
            if taken[label] > 1 or not identity.known:
                label += f"-{taken[label]}"
            reports.append(replace(answer, url=f"{entry}#{label}", name=label))
    return tuple(reports)


def _shared(addresses: Iterable[str | None]) -> set[str]:
    """Addresses that more than one server advertises, as those behind a load balancer of their own may."""
    listed = [one for one in addresses if one]
    return {one for one in listed if listed.count(one) > 1}


def _label(identity: Identity, names: Mapping[str, Sequence[str]], shared: set[str]) -> str:
    if identity.address and identity.address not in shared:
        found = names.get(identity.address, ())
        return found[0] if len(found) == 1 else identity.address
    if identity.started is not None:
        moment = datetime.fromtimestamp(identity.started, timezone.utc)
        return "started-" + moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return "answer"


def _servers(number: int) -> str:
    return f"{number} API server" + ("" if number == 1 else "s")
