# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What OpenShift's objects show about an update: whether it may begin, its progress, its problems. Pure.

ClusterVersion ``version`` and the ClusterOperators belong to config.openshift.io/v1, KubeAPIServer ``cluster`` to
operator.openshift.io/v1; here they are dictionaries as the API server returns them.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError, UpdateError

Document = Mapping[str, Any]

_VERSION = re.compile(r"\d+\.\d+\.\d+([-+].+)?")
_DIGEST = re.compile(r"\S+@sha256:[0-9a-f]{64}")
# A gate applies to updates from the minor version in its name (cluster-version-operator, pkg/cvo/upgradeable.go).
_GATE = re.compile(r"ack-(\d+\.\d+)-[^-]")
_ACKNOWLEDGED = "true"


@dataclass(frozen=True)
class UpdateTarget:
    """The release to update to: by version, by image, or both."""

    version: str | None
    image: str | None = None

    def __str__(self) -> str:
        return self.version or self.image or ""

    def fits(self, release: Document) -> bool:
        """Whether a release (from the history, an offer or a request) is this one."""
        pairs = [(self.version, release.get("version")), (self.image, release.get("image"))]
        known = [(mine, its) for mine, its in pairs if mine and its]
        return bool(known) and all(mine == its for mine, its in known)


def target_of(version: str | None, image: str | None) -> UpdateTarget:
    """Refuses values that can't name a release."""
    if not version and not image:
        raise BadInputError("Give the version of OpenShift to update to, such as 4.21.3, or an image by its digest.")
    if version and not _VERSION.fullmatch(version):
        raise BadInputError(f"version must be a release of OpenShift such as 4.21.3, not '{version}'.")
    if image and not _DIGEST.fullmatch(image):
        raise BadInputError("image must name a release by its digest, such as registry.example.com/release@sha256:….")
    return UpdateTarget(version or None, image or None)


@dataclass(frozen=True)
class Condition:
    status: str
    reason: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.reason, self.message.rstrip(".")) if part) or "no reason given"


def condition(document: Document, kind: str) -> Condition | None:
    """One of a document's conditions, its text on one line."""
    for found in _status(document).get("conditions") or ():
        if found.get("type") == kind:
            text = " ".join(str(found.get("message") or "").split())
            return Condition(str(found.get("status")), str(found.get("reason") or ""), text)
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
    """The head of the history: the release that the cluster has or is being updated to."""
    history = _status(cluster_version).get("history") or [{}]
    entry: Document = history[0]
    return entry


def current_version(cluster_version: Document) -> str:
    """The last release to which an update was completed."""
    history = _status(cluster_version).get("history") or []
    done = [entry for entry in history if entry.get("state") == "Completed"]
    return str((done or history or [{}])[0].get("version") or "")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


# Whether it may begin


class UpdateState(enum.Enum):
    DONE = "done"
    UNDER_WAY = "under way"
    ASKED_FOR = "requested, but not started yet"
    NOT_BEGUN = "not begun"


def update_state(cluster_version: Document, target: UpdateTarget) -> UpdateState:
    """The state of this update; raises UpdateError if another one has not finished."""
    head = newest(cluster_version)
    asked = requested(cluster_version)
    if target.fits(head):
        return UpdateState.DONE if head.get("state") == "Completed" else UpdateState.UNDER_WAY
    if head.get("state") == "Partial":
        raise UpdateError(
            f"An update to {head.get('version') or head.get('image')} has been in progress since {head.get('startedTime')} and is not "
            f"complete{_in_words(cluster_version)}; let it finish, or give that version to follow it, before you start one to "
            f"{target}. Nothing was started."
        )
    if target.fits(asked):
        # By version alone, the cluster-version operator takes only what is in availableUpdates; of a conditional update it wants the image.
        offer = offer_of(cluster_version, target)
        lacks_image = not asked.get("image") and offer is not None and offer.image
        return UpdateState.NOT_BEGUN if lacks_image and invalid(cluster_version) else UpdateState.ASKED_FOR
    if asked and not UpdateTarget(asked.get("version"), asked.get("image")).fits(head):
        raise UpdateError(
            f"An update to {asked.get('version') or asked.get('image')} was requested and not started"
            f"{_in_words(cluster_version)}; clear it with 'oc adm upgrade --clear' and run again. Nothing was started."
        )
    return UpdateState.NOT_BEGUN


def requested(cluster_version: Document) -> Document:
    """The update in the spec; empty if there is none. Accepted risks alone (acceptRisks) request none."""
    asked: Document = (cluster_version.get("spec") or {}).get("desiredUpdate") or {}
    return asked if asked.get("version") or asked.get("image") else {}


def invalid(cluster_version: Document) -> Condition | None:
    """Why the cluster-version operator ignores the whole spec; None if it doesn't."""
    return _with_status(cluster_version, "Invalid", "True")


def _in_words(cluster_version: Document) -> str:
    """What the ClusterVersion itself reports, in brackets."""
    said = (
        invalid(cluster_version)
        or _with_status(cluster_version, "ReleaseAccepted", "False")
        or _with_status(cluster_version, "Failing", "True")
        or _with_status(cluster_version, "Progressing", "True")
    )
    return f" ({said})" if said else ""


def gates_closed(gates: Mapping[str, str], acknowledged: Mapping[str, str], version: str) -> dict[str, str]:
    """The gates out of this version that nobody acknowledged, and what each asks an administrator to do."""
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
    """The update as the update service offers it; ``risk`` is why it is not recommended."""

    version: str
    image: str
    risk: str = ""


def offer_of(cluster_version: Document, target: UpdateTarget) -> Offer | None:
    status = _status(cluster_version)
    for release in status.get("availableUpdates") or ():
        if target.fits(release):
            return Offer(str(release.get("version") or ""), str(release.get("image") or ""))
    for update in status.get("conditionalUpdates") or ():
        release = update.get("release") or {}
        if target.fits(release):
            recommended = condition({"status": update}, "Recommended")
            advised = recommended is not None and recommended.status == "True"
            risk = "" if advised else str(recommended or "its risks are unknown")
            return Offer(str(release.get("version") or ""), str(release.get("image") or ""), risk)
    return None


def leaves_minor(cluster_version: Document, target: UpdateTarget, offer: Offer | None) -> bool:
    """Whether the update leaves the minor version, which is when Upgradeable and gates count; if in doubt, it does."""
    version = target.version or (offer.version if offer else "")
    return _minor(version) != _minor(current_version(cluster_version))


@dataclass(frozen=True)
class Overrides:
    """What the user accepts: an update that is not recommended, one of a cluster that is failing, or one past all checks."""

    not_recommended: bool = False
    warnings: bool = False
    force: bool = False


def obstacle(
    cluster_version: Document,
    operators: Sequence[Document],
    target: UpdateTarget,
    overrides: Overrides,
    *,
    settled: bool = True,
) -> str | None:
    """Why the update may not be started now, in one sentence that says what to do; None if it may.

    ``settled=False`` leaves out what pending acknowledgements and a pending channel may change.
    """
    offer = offer_of(cluster_version, target)
    if offer is None and settled and not (target.image and overrides.not_recommended):
        return _not_offered(cluster_version, target)
    if offer is not None and offer.risk and not overrides.not_recommended:
        return (
            f"The update to {target} is not recommended ({offer.risk}); check what that means for this cluster, and set "
            "allow_not_recommended to update anyway."
        )
    refused = invalid(cluster_version)
    if refused and not target.fits(requested(cluster_version)):
        return f"The ClusterVersion is invalid, so its operator ignores it ({refused}); correct it, see: oc edit clusterversion."
    if overrides.force:
        return None
    failing = _with_status(cluster_version, "Failing", "True")
    if failing and not overrides.warnings:
        return (
            f"The cluster-version operator is already failing ({failing}); fix that first, see: oc describe clusterversion. Or set "
            "allow_upgrade_with_warnings, as for oc."
        )
    refused = _with_status(cluster_version, "Upgradeable", "False")
    if refused and settled and leaves_minor(cluster_version, target, offer):
        return f"The cluster is not upgradeable ({refused}); fix that first."
    degraded = [operator for operator in operators if _with_status(operator, "Degraded", "True")]
    if degraded and not overrides.warnings:
        return (
            " ".join(_degraded(operator) for operator in degraded)
            + " Fix that first, or set allow_upgrade_with_warnings."
        )
    return None


def _not_offered(cluster_version: Document, target: UpdateTarget) -> str:
    channel = (cluster_version.get("spec") or {}).get("channel")
    retrieved = _with_status(cluster_version, "RetrievedUpdates", "False")
    offered = [str(release.get("version")) for release in _status(cluster_version).get("availableUpdates") or ()]
    if retrieved:
        why = f"it could not be reached ({retrieved})"
    else:
        why = f"channel {channel} offers {', '.join(offered) or 'no update'}" if channel else "no channel is set"
    return (
        f"The update service does not offer {target}: {why}. Set the channel that has it, or give its image by digest "
        "with allow_not_recommended."
    )


def update_patch(target: UpdateTarget, offer: Offer | None, *, force: bool) -> dict[str, Any]:
    """The patch that starts the update, without leftovers of an earlier one in desiredUpdate.

    Version and image both, as 'oc adm upgrade' sends them: without its image a conditional update is invalid
    (cluster-version-operator, lib/validation, ValidateClusterVersion).
    """
    version = target.version or (offer.version if offer else "")
    image = target.image or (offer.image if offer else "")
    wanted = {"version": version or None, "image": image or None, "force": force or None, "architecture": None}
    return {"spec": {"desiredUpdate": wanted}}


# Progress

_FAILING = "failing"
# cluster-version-operator, pkg/cvo/internal/operatorstatus.go
_FAILS_FOR_OPERATORS = ("ClusterOperatorDegraded", "ClusterOperatorsDegraded")


@dataclass(frozen=True)
class Look:
    """The objects at one moment."""

    cluster_version: Document
    kube_api_server: Document
    operators: tuple[Document, ...]


@dataclass(frozen=True)
class NodeRevision:
    """A master as the kube-apiserver operator reports it; ``failed`` is why its last revision could not be installed."""

    node: str
    revision: int
    target: int
    failed: str

    def behind(self, latest: int) -> bool:
        return self.revision != latest or self.target not in (0, latest)


def masters(kube_api_server: Document) -> tuple[list[NodeRevision], int]:
    """(masters, the revision that all should reach)."""
    status = _status(kube_api_server)
    found = []
    for node in status.get("nodeStatuses") or ():
        revision, target = int(node.get("currentRevision") or 0), int(node.get("targetRevision") or 0)
        failed = ""
        if int(node.get("lastFailedRevision") or 0) > revision:
            errors = " ".join(" ".join(node.get("lastFailedRevisionErrors") or ()).split())
            failed = (
                ": ".join(part for part in (str(node.get("lastFailedReason") or ""), errors) if part)
                or "no reason given"
            )
        found.append(NodeRevision(str(node.get("nodeName")), revision, target, failed))
    return found, int(status.get("latestAvailableRevision") or 0)


def still_to_come(look: Look, target: UpdateTarget, accepted: Collection[str] = ()) -> list[str]:
    """What the update is still waiting for, a clause each; empty when it has finished.

    ``accepted``: troubles that it does not wait for, as from ``accepted_troubles``.
    """
    head = newest(look.cluster_version)
    left = []
    if not target.fits(head):
        left.append("the cluster-version operator has not started it")
    elif head.get("state") != "Completed":
        progress = _with_status(look.cluster_version, "Progressing", "True")
        left.append(f"its history says {head.get('state')}{f' ({progress})' if progress else ''}")
    found, latest = masters(look.kube_api_server)
    if not found:
        left.append("the kube-apiserver operator reports no master")
    behind: dict[int, list[str]] = {}
    for master in found:
        if master.behind(latest):
            behind.setdefault(master.revision, []).append(master.node)
    for revision, names in behind.items():
        left.append(f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} at revision {revision}, not {latest}")
    left += troubles(look, target, accepted).values()
    return left


def accepted_troubles(look: Look, overrides: Overrides) -> frozenset[str]:
    """What the first look of a run shows that the overrides accept: no more than what ``obstacle`` lets pass with them."""
    if not (overrides.warnings or overrides.force):
        return frozenset()
    failing = _with_status(look.cluster_version, "Failing", "True")
    return frozenset({*_degraded_keys(look.operators), *([_failing_key(failing.reason)] if failing else [])})


def _failing_key(reason: str) -> str:
    """A failure for another reason is another one."""
    return f"{_FAILING} {reason}"


def _degraded_keys(operators: Iterable[Document]) -> set[str]:
    return {f"operator {name_of(operator)}" for operator in operators if _with_status(operator, "Degraded", "True")}


def troubles(look: Look, target: UpdateTarget, accepted: Collection[str] = ()) -> dict[str, str]:
    """What is wrong at this moment, a clause each, except what is ``accepted``; it counts only if it lasts."""
    found = {key: text for key, text in _all_troubles(look, target).items() if key not in accepted}
    failing = _with_status(look.cluster_version, "Failing", "True")
    degraded = _degraded_keys(look.operators)
    if failing and failing.reason in _FAILS_FOR_OPERATORS and degraded and degraded <= set(accepted):
        found.pop(
            _failing_key(failing.reason), None
        )  # The same trouble in other words, which may come up only during the update.
    return found


def still_accepted(look: Look, target: UpdateTarget, accepted: Collection[str]) -> list[str]:
    """What is wrong at this moment and ``accepted``, a clause each."""
    return [text for key, text in _all_troubles(look, target).items() if key in accepted]


def _all_troubles(look: Look, target: UpdateTarget) -> dict[str, str]:
    found = {}
    broken = invalid(look.cluster_version)
    if broken:
        found["invalid"] = f"the ClusterVersion is invalid ({broken}); see: oc get clusterversion -o yaml"
    refused = _with_status(look.cluster_version, "ReleaseAccepted", "False")
    if refused and not target.fits(newest(look.cluster_version)):
        found["accepted"] = f"the release was not accepted ({refused}); see: oc adm upgrade"
    failing = _with_status(look.cluster_version, "Failing", "True")
    if failing:
        found[_failing_key(failing.reason)] = (
            f"the cluster-version operator is failing ({failing}); see: oc describe clusterversion"
        )
    gone = _with_status(look.cluster_version, "Available", "False")
    if gone:
        found["available"] = f"the cluster is not available ({gone}); see: oc get clusteroperators"
    for operator in look.operators:
        if _with_status(operator, "Degraded", "True"):
            found[f"operator {name_of(operator)}"] = _degraded(operator).rstrip(".")
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


def refused_for_good(cluster_version: Document, target: UpdateTarget) -> str | None:
    """Why the operator will never take the request up as it is; None if it may, or if it hasn't looked at it yet."""
    why = invalid(cluster_version)
    if why is None or target.fits(newest(cluster_version)):
        return None
    seen = int(_status(cluster_version).get("observedGeneration") or 0)
    wanted = int((cluster_version.get("metadata") or {}).get("generation") or 0)
    return str(why) if 0 < wanted <= seen else None


def superseded(cluster_version: Document, target: UpdateTarget, since: Document) -> str | None:
    """What replaced an update that had begun; None while it is at the head of the history, or hasn't begun.

    ``since``: the head of the history when this run began. An older entry of the same release is an earlier update, as after a
    rollback.
    """
    history = _status(cluster_version).get("history") or [{}]
    head = history[0]
    if target.fits(head):
        return None
    began = [target.fits(entry) for entry in _newer(history, since)]
    if not any(began) and (_same_entry(head, since) or not target.fits(since)):
        return None
    return str(head.get("version") or head.get("image"))


def _newer(history: Sequence[Document], since: Document) -> list[Document]:
    known = next((at for at, entry in enumerate(history) if _same_entry(entry, since)), len(history))
    return list(history[:known])


def _same_entry(one: Document, other: Document) -> bool:
    return all(one.get(name) == other.get(name) for name in ("version", "image", "startedTime"))


def kubernetes_version(operators: Iterable[Document]) -> str | None:
    """The Kubernetes release that the kube-apiserver operator reports."""
    for operator in operators:
        if name_of(operator) == "kube-apiserver":
            for version in _status(operator).get("versions") or ():
                if version.get("name") == "kube-apiserver":
                    return str(version.get("version"))
    return None


class Grace:
    """A problem counts once it has lasted for a while; operators flap while they are updated."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: dict[str, float] = {}

    def lasting(self, found: Mapping[str, str], now: float) -> list[str]:
        """The problems that have lasted too long."""
        self._since = {key: self._since.get(key, now) for key in found}
        return [text for key, text in found.items() if now - self._since[key] >= self._seconds]
