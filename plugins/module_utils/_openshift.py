# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What OpenShift's objects say of an update: whether it may begin, how far it is, what is wrong. Pure.

ClusterVersion ``version`` and the ClusterOperators are of config.openshift.io/v1, KubeAPIServer ``cluster`` of
operator.openshift.io/v1; here they are dictionaries as the API server gives them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._errors import BadInputError, UpdateError

Document = Mapping[str, Any]

_VERSION = re.compile(r"\d+\.\d+\.\d+([-+].+)?")
_DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")
# A gate holds for the minor version in its name, the one that is left (cluster-version-operator, pkg/cvo/upgradeable.go).
_GATE = re.compile(r"ack-(\d+\.\d+)-[^-]")
_ACKNOWLEDGED = "true"


@dataclass(frozen=True)
class Target:
    """The release to come to: by version, by image, or both."""

    version: str | None
    image: str | None = None

    def __str__(self) -> str:
        return self.version or self.image or ""

    def fits(self, release: Document) -> bool:
        """Whether a release (of the history, of what is offered or asked for) is this one."""
        pairs = [(self.version, release.get("version")), (self.image, release.get("image"))]
        known = [(mine, its) for mine, its in pairs if mine and its]
        return bool(known) and all(mine == its for mine, its in known)


def target_of(version: str | None, image: str | None) -> Target:
    """Refuses what can't name a release."""
    if not version and not image:
        raise BadInputError("Give the version of OpenShift to update to, such as 4.21.3, or an image by its digest.")
    if version and not _VERSION.fullmatch(version):
        raise BadInputError(f"version must be a release of OpenShift such as 4.21.3, not '{version}'.")
    if image and not _DIGEST.fullmatch(image):
        raise BadInputError("image must name a release by its digest, such as registry.example.com/release@sha256:….")
    return Target(version or None, image or None)


@dataclass(frozen=True)
class Condition:
    status: str
    reason: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.reason, self.message.rstrip(".")) if part) or "no reason given"


def condition(document: Document, kind: str) -> Condition | None:
    """One of a document's conditions, its text on one line."""
    for one in _status(document).get("conditions") or ():
        if one.get("type") == kind:
            text = " ".join(str(one.get("message") or "").split())
            return Condition(str(one.get("status")), str(one.get("reason") or ""), text)
    return None


def _with_status(document: Document, kind: str, status: str) -> Condition | None:
    found = condition(document, kind)
    return found if found is not None and found.status == status else None


def _status(document: Document) -> Document:
    status: Document = document.get("status") or {}
    return status


def name_of(document: Document) -> str:
    return str((document.get("metadata") or {}).get("name"))


def newest(cluster_version: Document) -> Document:
    """The head of the history: the release that the cluster has or goes to."""
    history = _status(cluster_version).get("history") or [{}]
    entry: Document = history[0]
    return entry


def current_version(cluster_version: Document) -> str:
    """The last release that the cluster came to wholly."""
    history = _status(cluster_version).get("history") or []
    done = [entry for entry in history if entry.get("state") == "Completed"]
    return str((done or history or [{}])[0].get("version") or "")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


# Whether it may begin


class Standing(enum.Enum):
    DONE = "done"
    UNDER_WAY = "under way"
    ASKED_FOR = "asked for, and not taken up yet"
    NOT_BEGUN = "not begun"


def standing(cluster_version: Document, target: Target) -> Standing:
    """Where this update stands; raises UpdateError where another one is not at its end."""
    head = newest(cluster_version)
    asked = (cluster_version.get("spec") or {}).get("desiredUpdate") or {}
    if target.fits(head):
        return Standing.DONE if head.get("state") == "Completed" else Standing.UNDER_WAY
    if head.get("state") == "Partial":
        raise UpdateError(
            f"An update to {head.get('version') or head.get('image')} is under way since {head.get('startedTime')} and not "
            f"complete{_in_words(cluster_version)}; let it end, or follow it by giving that version, before one to {target} is "
            "begun. Nothing was started."
        )
    if target.fits(asked):
        return Standing.ASKED_FOR
    if asked and not Target(asked.get("version"), asked.get("image")).fits(head):
        raise UpdateError(
            f"An update to {asked.get('version') or asked.get('image')} is asked for and was not taken up"
            f"{_in_words(cluster_version)}; clear it with 'oc adm upgrade --clear' and run again. Nothing was started."
        )
    return Standing.NOT_BEGUN


def _in_words(cluster_version: Document) -> str:
    """What the ClusterVersion itself says of what goes on, in brackets."""
    said = (
        _with_status(cluster_version, "ReleaseAccepted", "False")
        or _with_status(cluster_version, "Failing", "True")
        or _with_status(cluster_version, "Progressing", "True")
    )
    return f" ({said})" if said else ""


def gates_closed(gates: Mapping[str, str], acknowledged: Mapping[str, str], version: str) -> dict[str, str]:
    """The gates out of this version that nobody acknowledged, with what each asks an administrator to see to."""
    found = {}
    for name, text in sorted(gates.items()):
        match = _GATE.match(name)
        if match and match[1] == _minor(version) and acknowledged.get(name) != _ACKNOWLEDGED:
            found[name] = " ".join(text.split())
    return found


def acknowledgements(names: Iterable[str]) -> dict[str, Any]:
    """The patch of ConfigMap openshift-config/admin-acks."""
    return {"data": dict.fromkeys(names, _ACKNOWLEDGED)}


@dataclass(frozen=True)
class Offer:
    """The update as the update service offers it; ``risk`` is why it advises against it."""

    version: str
    image: str
    risk: str = ""


def offer_of(cluster_version: Document, target: Target) -> Offer | None:
    status = _status(cluster_version)
    for release in status.get("availableUpdates") or ():
        if target.fits(release):
            return Offer(str(release.get("version") or ""), str(release.get("image") or ""))
    for update in status.get("conditionalUpdates") or ():
        release = update.get("release") or {}
        if target.fits(release):
            recommended = condition({"status": update}, "Recommended")
            advised = recommended is not None and recommended.status == "True"
            risk = "" if advised else str(recommended or "its risks are not known yet")
            return Offer(str(release.get("version") or ""), str(release.get("image") or ""), risk)
    return None


def leaves_minor(cluster_version: Document, target: Target, offer: Offer | None) -> bool:
    """Whether the update leaves the minor version, which is when Upgradeable and gates count; if in doubt, it does."""
    version = target.version or (offer.version if offer else "")
    return _minor(version) != _minor(current_version(cluster_version))


@dataclass(frozen=True)
class Daring:
    """What the user takes upon themselves: an update that is not recommended, or one past all checks."""

    not_recommended: bool = False
    force: bool = False


def obstacle(
    cluster_version: Document, operators: Sequence[Document], target: Target, daring: Daring, *, settled: bool = True
) -> str | None:
    """Why the update may not be started now, in one sentence that says what to do; None if it may.

    ``settled=False`` leaves out what acknowledgements and a channel that are still to be set may change.
    """
    offer = offer_of(cluster_version, target)
    if offer is None and settled and not (target.image and daring.not_recommended):
        return _not_offered(cluster_version, target)
    if offer is not None and offer.risk and not daring.not_recommended:
        return (
            f"The update to {target} is advised against ({offer.risk}); read what that means for this cluster, and set "
            "allow_not_recommended to take it all the same."
        )
    if daring.force:
        return None
    failing = _with_status(cluster_version, "Failing", "True")
    if failing:
        return f"The cluster-version operator is failing already ({failing}); repair that first, see: oc describe clusterversion."
    refused = _with_status(cluster_version, "Upgradeable", "False")
    if refused and settled and leaves_minor(cluster_version, target, offer):
        return f"The cluster says that it is not upgradeable ({refused}); see to that first."
    degraded = [one for one in operators if _with_status(one, "Degraded", "True")]
    if degraded:
        return " ".join(_degraded(one) for one in degraded) + " Repair that first."
    return None


def _not_offered(cluster_version: Document, target: Target) -> str:
    channel = (cluster_version.get("spec") or {}).get("channel")
    retrieved = _with_status(cluster_version, "RetrievedUpdates", "False")
    offered = [str(one.get("version")) for one in _status(cluster_version).get("availableUpdates") or ()]
    if retrieved:
        why = f"what is offered could not be asked ({retrieved})"
    else:
        why = f"channel {channel} offers {', '.join(offered) or 'no update'}" if channel else "no channel is set"
    return (
        f"The update service does not offer {target}: {why}. Set the channel that has it, or give its image by digest "
        "with allow_not_recommended."
    )


def update_patch(target: Target, *, force: bool) -> dict[str, Any]:
    """The patch that starts the update. What an earlier one left in desiredUpdate must not stay."""
    wanted = {"version": target.version, "image": target.image, "force": force or None, "architecture": None}
    return {"spec": {"desiredUpdate": wanted}}


# How far it is


@dataclass(frozen=True)
class Look:
    """The objects at one moment."""

    cluster_version: Document
    kube_api_server: Document
    operators: tuple[Document, ...]


@dataclass(frozen=True)
class Master:
    """A master by the kube-apiserver operator's account; ``failed`` is why its last revision could not be installed."""

    node: str
    revision: int
    target: int
    failed: str

    def behind(self, latest: int) -> bool:
        return self.revision != latest or self.target not in (0, latest)


def masters(kube_api_server: Document) -> tuple[list[Master], int]:
    """(masters, the revision they all go to)."""
    status = _status(kube_api_server)
    found = []
    for one in status.get("nodeStatuses") or ():
        revision, target = int(one.get("currentRevision") or 0), int(one.get("targetRevision") or 0)
        failed = ""
        if int(one.get("lastFailedRevision") or 0) > revision:
            errors = " ".join(" ".join(one.get("lastFailedRevisionErrors") or ()).split())
            failed = (
                ": ".join(part for part in (str(one.get("lastFailedReason") or ""), errors) if part)
                or "no reason given"
            )
        found.append(Master(str(one.get("nodeName")), revision, target, failed))
    return found, int(status.get("latestAvailableRevision") or 0)


def still_to_come(look: Look, target: Target) -> list[str]:
    """What the update is still waiting for, a clause each; empty when it has come to its end."""
    head = newest(look.cluster_version)
    left = []
    if not target.fits(head):
        left.append("the cluster-version operator has not taken it up")
    elif head.get("state") != "Completed":
        progress = _with_status(look.cluster_version, "Progressing", "True")
        left.append(f"its history says {head.get('state')}{f' ({progress})' if progress else ''}")
    found, latest = masters(look.kube_api_server)
    if not found:
        left.append("the kube-apiserver operator reports no master")
    behind: dict[int, list[str]] = {}
    for one in found:
        if one.behind(latest):
            behind.setdefault(one.revision, []).append(one.node)
    for revision, names in behind.items():
        left.append(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} at revision {revision}, not {latest}")
    left += troubles(look, target).values()
    return left


def troubles(look: Look, target: Target) -> dict[str, str]:
    """What is wrong at this moment, a clause each; it counts only if it lasts."""
    found = {}
    refused = _with_status(look.cluster_version, "ReleaseAccepted", "False")
    if refused and not target.fits(newest(look.cluster_version)):
        found["accepted"] = f"the release was not accepted ({refused}); see: oc adm upgrade"
    failing = _with_status(look.cluster_version, "Failing", "True")
    if failing:
        found["failing"] = f"the cluster-version operator is failing ({failing}); see: oc describe clusterversion"
    gone = _with_status(look.cluster_version, "Available", "False")
    if gone:
        found["available"] = f"the cluster is not available ({gone}); see: oc get clusteroperators"
    for one in look.operators:
        if _with_status(one, "Degraded", "True"):
            found[f"operator {name_of(one)}"] = _degraded(one).rstrip(".")
    for master in masters(look.kube_api_server)[0]:
        if master.failed:
            found[f"master {master.node}"] = (
                f"the API server of {master.node} could not be installed ({master.failed}); see: oc get pods -n "
                "openshift-kube-apiserver"
            )
    return found


def _degraded(operator: Document) -> str:
    name = name_of(operator)
    return f"Operator {name} is degraded ({condition(operator, 'Degraded')}); see: oc describe clusteroperator {name}."


def superseded(cluster_version: Document, target: Target) -> str | None:
    """What took the place of an update that had begun; None while it is at the head of the history."""
    head, *older = _status(cluster_version).get("history") or [{}]
    if target.fits(head) or not any(target.fits(entry) for entry in older):
        return None
    return str(head.get("version") or head.get("image"))


def kubernetes_version(operators: Iterable[Document]) -> str | None:
    """The Kubernetes release that the kube-apiserver operator says it has come to."""
    for one in operators:
        if name_of(one) == "kube-apiserver":
            for each in _status(one).get("versions") or ():
                if each.get("name") == "kube-apiserver":
                    return str(each.get("version"))
    return None


class Grace:
    """Trouble counts once it has lasted for some seconds; operators flap while they are updated."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def lasting(self, found: Mapping[str, str], now: float) -> list[str]:
        """Those that lasted for too long by now."""
        self._since = {key: self._since.get(key, now) for key in found}
        return [text for key, text in found.items() if now - self._since[key] >= self._seconds]
