# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Agreement by sampling, if only one address is known: what many fresh connections to it prove. Pure.

This proves less than asking each server at its own address, and everything that uses it says so. A load balancer decides
which server answers, so a server may never be asked, and none can be watched between two rounds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import same_address
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import millis_text
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import ServerReport
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.identity_leases import Alive

EACH_SERVER = "each_server"
# Each that is listed was asked, but whether others are alive is unknown.
LISTED_SERVERS = "listed_servers"
SAMPLING = "sampling"

# The text form of /flagz changes its delimiter with every answer, so that nobody relies on it.
_ADVERTISED = re.compile(r"^advertise-address\s*[:= ]\s*(\S+)", re.MULTILINE)
_STARTED = re.compile(r"^process_start_time_seconds (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class SamplingSettings:
    """``connections``: how many each round opens; ``at_once``: how many at a time.

    ``require_identity``: whether samples count only if the servers can be distinguished.
    """

    connections: int
    at_once: int
    require_identity: bool


@dataclass(frozen=True)
class Identity:
    """What distinguishes API servers: the advertised address, and when the process started (seconds since the epoch).

    None if the server does not say.
    """

    address: str | None = None
    started: float | None = None

    @property
    def known(self) -> bool:
        return self.address is not None or self.started is not None


@dataclass(frozen=True)
class Sample:
    """The answers over one fresh connection.

    ``report``: None if this server reported everything over another connection of the same round, and now only that
    it is ready.
    """

    identity: Identity
    report: ServerReport | None


@dataclass(frozen=True)
class Evidence:
    """The evidence for agreement if the servers could not be asked one by one.

    ``connections``: how many were opened. ``told_apart``: how many servers they reached; None if they can't be
    distinguished. ``servers``: how many there must be; None if unknown.
    """

    connections: int
    told_apart: int | None
    servers: int | None

    @property
    def chance_missed(self) -> float | None:
        return None if self.servers is None else chance_missed(self.servers, self.connections)

    def sentence(self) -> str:
        """How much it proves."""
        if self.told_apart is not None:
            what = (
                f"{_servers(self.told_apart)} answered {self.connections} fresh connections to one address, "
                "as many as expected"
            )
        else:
            what = f"{self.connections} fresh connections to one address were answered, by API servers that can't be distinguished"
            if self.chance_missed is not None:
                what += (
                    f"; behind a load balancer that spreads evenly, the chance that one of the {self.servers} was missed is "
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
    """The chance that some server got none of the connections, if each is equally likely to get one.

    An upper bound: the sum over the servers, although several may be missed at once.
    """
    return min(1.0, servers * (1 - 1 / servers) ** connections) if servers > 1 else 0.0


def percent(chance: float) -> str:
    """``about 0.0005 %``; never rounded to zero."""
    return f"about {chance * 100:.1g} %" if chance >= 1e-6 else "less than 0.0001 %"


def read_identity(flags: str, metrics: str) -> Identity:
    """From the answers of /flagz and of /metrics or /metrics/slis; empty text where one was refused.

    Of the flags, only the advertised address is read.
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
    # If no address is set, the flag's default says nothing.
    known = address not in (None, "", "<nil>", "0.0.0.0", "::")
    return Identity(same_address(str(address)) if known else None, started)


def evaluate_samples(
    entry: str,
    samples: Sequence[Sample],
    before: Sequence[Alive],
    after: Sequence[Alive],
    settings: SamplingSettings,
    expected: int | None,
) -> tuple[tuple[ServerReport, ...], tuple[str, ...], Evidence]:
    """(reports, problems, evidence) of one round of samples behind the address ``entry``.

    Each server that can be distinguished gets its own report, and so does each different answer: one deviating
    sample is a disagreement. ``before`` and ``after``: whose Leases were fresh before and after the samples were taken.
    """
    # A sample that failed before it was identified has a report with that error.
    answered = [
        sample for sample in samples if sample.identity.known or sample.report is None or sample.report.error is None
    ]
    known = all(sample.identity.known for sample in answered)
    told = len({sample.identity for sample in answered}) if known else None
    wanted = expected if expected is not None else len(after) or None
    problems = []
    restarted = sorted({server.name for server in {*before} ^ {*after}})
    if expected is not None and len(after) > expected:
        problems.append(
            f"{_servers(len(after))} renew their Leases ({', '.join(server.name for server in after)}), but there must be "
            f"{expected} (expected_servers); name those that don't belong to this cluster with ignored_servers."
        )
    if restarted:
        problems.append(f"{', '.join(restarted)} appeared, disappeared or restarted while samples were taken.")
    if told is None and settings.require_identity:
        problems.append(
            f"The API servers behind {entry} can't be distinguished: allow the user to get /flagz and /metrics/slis (the ClusterRole "
            "kube-storage-upgrade-sampling grants that), or set "
            "require_identity=false in sampling to rely on the number of connections alone."
        )
    elif told is not None and wanted is None:
        problems.append(
            f"How many API servers are behind {entry} is unknown: allow the user to list leases in kube-system (the Role "
            "kube-storage-upgrade-cross-check grants that), or "
            "give expected_servers."
        )
    elif told is not None and wanted is not None and told < wanted:
        problems.append(_too_few(samples, after, told, wanted))
    elif told is not None and wanted is not None and told > wanted:
        problems.append(
            f"{len(samples)} connections reached {_servers(told)}, but there must be {wanted}"
            f"{'' if expected is None else ' (expected_servers)'}."
        )
    return _reports(entry, samples, after), tuple(problems if answered else ()), Evidence(len(samples), told, wanted)


def _too_few(samples: Sequence[Sample], after: Sequence[Alive], told: int, wanted: int) -> str:
    addresses = {sample.identity.address for sample in samples}
    named = {server.address for server in after}
    unseen = [server.name for server in after if server.address not in addresses]
    missing = f" ({', '.join(unseen)} did not)" if addresses <= named and len(unseen) == len(after) - told else ""
    return (
        f"Only {told} of {_servers(wanted)} answered {len(samples)} fresh connections{missing}; raise the connections of sampling, "
        "or check whether the load balancer always sends a client to the same server."
    )


def _reports(entry: str, samples: Sequence[Sample], after: Sequence[Alive]) -> tuple[ServerReport, ...]:
    """One report for each identity and each different answer, named so that people recognize the server."""
    names: dict[str, list[str]] = {}
    for server in after:
        if server.address:
            names.setdefault(server.address, []).append(server.name)
    distinct: dict[Identity, list[ServerReport]] = {}
    for sample in samples:
        found = distinct.setdefault(sample.identity, [])
        if sample.report is not None and sample.report not in found:
            found.append(sample.report)
    reports: list[ServerReport] = []
    taken: dict[str, int] = {}
    shared = _shared(identity.address for identity in distinct)
    for identity in sorted(distinct, key=lambda identity: (identity.address or "", identity.started or 0.0)):
        for answer in distinct[identity]:
            label = _label(identity, names, shared)
            taken[label] = taken.get(label, 0) + 1
            if taken[label] > 1 or not identity.known:
                label += f"-{taken[label]}"
            reports.append(replace(answer, url=f"{entry}#{label}", name=label))
    return tuple(reports)


def _shared(addresses: Iterable[str | None]) -> set[str]:
    """Addresses that several servers advertise, as servers behind their own load balancer may."""
    listed = [address for address in addresses if address]
    return {address for address in listed if listed.count(address) > 1}


def _label(identity: Identity, names: Mapping[str, Sequence[str]], shared: set[str]) -> str:
    if identity.address and identity.address not in shared:
        found = names.get(identity.address, ())
        return found[0] if len(found) == 1 else identity.address
    if identity.started is not None:
        moment = datetime.fromtimestamp(identity.started, timezone.utc)
        return "started-" + millis_text(moment)
    return "answer"


def _servers(number: int) -> str:
    return f"{number} API server" + ("" if number == 1 else "s")
