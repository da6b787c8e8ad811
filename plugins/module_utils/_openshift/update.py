# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The work of module openshift_update: checks whether an update may begin, starts it with openshift-client, follows it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    ApiError,
    StorageUpgradeError,
    UpdateError,
    is_forbidden,
    is_passing,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event, Report
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import (
    require_not_negative,
    require_positive,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.progress import duration
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.cluster import Cluster, open_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.named import names_cluster
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.permissions import Need, require
from ansible_collections.kube_storage.upgrade.plugins.module_utils._openshift.kubectl import Kubectl
from ansible_collections.kube_storage.upgrade.plugins.module_utils._openshift.rules import (
    Document,
    Grace,
    Look,
    Overrides,
    UpdateState,
    UpdateTarget,
    accepted_troubles,
    acknowledgements,
    current_version,
    gates_closed,
    kubernetes_version,
    leaves_minor,
    masters,
    newest,
    obstacle,
    offer_of,
    refused_for_good,
    still_accepted,
    still_to_come,
    superseded,
    target_of,
    troubles,
    update_patch,
    update_state,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.version_hashes import (
    STARTING,
    history,
    moment,
    now,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.convergence import (
    Observation,
    Watch,
    release_text,
)

_CONFIG, _OPERATOR = "config.openshift.io", "operator.openshift.io"
_CLUSTER_VERSION = f"/apis/{_CONFIG}/v1/clusterversions/version"
_OPERATORS = f"/apis/{_CONFIG}/v1/clusteroperators"
_KUBE_API_SERVER = f"/apis/{_OPERATOR}/v1/kubeapiservers/cluster"
_GATES = ("openshift-config-managed", "admin-gates")
_ACKNOWLEDGEMENTS = ("openshift-config", "admin-acks")
_MIGRATOR = "/apis/migration.k8s.io/v1alpha1"
_NAMED = 6
_PAUSES = (1.0, 2.0, 4.0)

_TO_READ = (
    Need("get", _CONFIG, "clusterversions", name="version"),
    Need("list", _CONFIG, "clusteroperators"),
    Need("get", _OPERATOR, "kubeapiservers", name="cluster"),
    Need("get", "", "configmaps", namespace=_GATES[0], name=_GATES[1]),
    Need("get", "", "configmaps", namespace=_ACKNOWLEDGEMENTS[0], name=_ACKNOWLEDGEMENTS[1]),
)
_TO_START = Need("patch", _CONFIG, "clusterversions", name="version")
_TO_ACKNOWLEDGE = Need("patch", "", "configmaps", namespace=_ACKNOWLEDGEMENTS[0], name=_ACKNOWLEDGEMENTS[1])


@dataclass
class _Done:
    """What this run did."""

    acknowledged: list[str] = field(default_factory=list)
    channel: str | None = None
    started: bool = False

    @property
    def anything(self) -> bool:
        return bool(self.acknowledged or self.channel or self.started)


@dataclass(frozen=True)
class OpenshiftUpdateOptions:
    """The options of openshift_update.

    ``acknowledge``: names of gates. ``oc``: name or path of openshift-client. In seconds: ``timeout`` of the whole update,
    ``interval`` between two polls, and ``grace``, how long a problem must last before it counts.
    """

    cluster: ClusterOptions
    target: UpdateTarget
    overrides: Overrides = Overrides()
    channel: str | None = None
    acknowledge: tuple[str, ...] = ()
    oc: str = "oc"
    timeout: float = 10800.0
    interval: float = 10.0
    grace: float = 900.0

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> OpenshiftUpdateOptions:
        """From the module's parameters. Raises BadInputError."""
        require_positive(params, ["interval", "timeout"])
        require_not_negative(params, ["grace"])
        return cls(
            target=target_of(params.get("version"), params.get("image")),
            cluster=ClusterOptions.from_params(params),
            overrides=Overrides(
                params["allow_not_recommended"], params["allow_upgrade_with_warnings"], params["force"]
            ),
            channel=params.get("channel"),
            acknowledge=tuple(params["acknowledge"]),
            oc=params["oc"],
            timeout=params["timeout"],
            interval=params["interval"],
            grace=params["grace"],
        )


@names_cluster
async def openshift_update(options: OpenshiftUpdateOptions, check_mode: bool, report: Report) -> dict[str, Any]:
    """The module's result; raises the collection's errors."""
    async with open_cluster(options.cluster) as cluster, Kubectl(options.oc, options.cluster) as oc:
        return await _Update(cluster, oc, options, check_mode, report).run()


class _Update:
    def __init__(
        self,
        cluster: Cluster,
        oc: Kubectl,
        options: OpenshiftUpdateOptions,
        check_mode: bool,
        report: Report,
    ) -> None:
        self._cluster = cluster
        self._oc = oc
        self._options = options
        self._target = options.target
        self._check_mode = check_mode
        self._report = report
        self._overrides = options.overrides
        self._accepted: frozenset[str] = frozenset()
        self._told = ""
        self._done = _Done()
        self._last = Look({}, {}, ())
        self._head_before: Document = {}
        self._refused: dict[Callable[[], Any], float] = {}
        self._began = time.monotonic()
        self._ends = self._began + options.timeout

    async def run(self) -> dict[str, Any]:
        await self._require_openshift()
        await require(self._cluster.entry, _TO_READ)
        self._last = await self._look()
        self._accepted = accepted_troubles(self._last, self._overrides)
        before = current_version(self._last.cluster_version)
        self._head_before = newest(self._last.cluster_version)
        at = update_state(self._last.cluster_version, self._target)
        if at in (UpdateState.NOT_BEGUN, UpdateState.ASKED_FOR):
            await self._prepare(at)
        watch = Watch(self._cluster.observe, now)
        if self._check_mode:
            await watch.observe()
        else:
            try:
                await self._follow(watch)
            except UpdateError as error:
                raise UpdateError(error.message, self._result(watch, before)) from error
        migrator = (await self._cluster.entry.request("GET", _MIGRATOR)).status == 200
        return {
            **self._result(watch, before),
            "migrator": migrator,
            "msg": f"{self._sentence(at, before)}{self._not_waited_for()}",
        }

    # Whether it may begin, and its beginning

    async def _require_openshift(self) -> None:
        for group in (_CONFIG, _OPERATOR):
            answer = await self._cluster.entry.request("GET", f"/apis/{group}/v1")
            if answer.status == 404:
                raise UpdateError(
                    f"This is not an OpenShift cluster: it does not serve {group}/v1. Nothing was touched; check the kubeconfig, or "
                    "use another driver."
                )
            self._cluster.entry.document(answer, "GET", f"/apis/{group}/v1")

    async def _prepare(self, at: UpdateState) -> None:
        """Acknowledges, sets the channel and starts the update; raises UpdateError if it may not begin."""
        self._oc.require()
        cluster_version = await self._cluster_version()
        to_open = await self._gates_to_open(cluster_version)
        channel = self._channel_to_set(cluster_version)
        await require(self._cluster.entry, [_TO_START, *([_TO_ACKNOWLEDGE] if to_open else [])])
        if at is UpdateState.NOT_BEGUN:
            self._refuse(await self._obstacle(settled=not to_open and not channel))
        if self._check_mode:
            self._done = _Done(to_open, channel, at is UpdateState.NOT_BEGUN)
            return
        if to_open:
            namespace, name = _ACKNOWLEDGEMENTS
            await self._oc.patch("configmap", name, acknowledgements(to_open), namespace)
            self._done.acknowledged = to_open
            self._report(Event("notice", f"Acknowledged {', '.join(to_open)}."))
        if channel:
            await self._patch({"spec": {"channel": channel}})
            self._done.channel = channel
            self._report(Event("notice", f"Set the channel to {channel}."))
        if at is UpdateState.NOT_BEGUN:
            await self._until_nothing_is_in_the_way()
            offer = offer_of(self._last.cluster_version, self._target)
            await self._patch(update_patch(self._target, offer, force=self._overrides.force))
            self._done.started = True
            self._report(Event("notice", f"Started the update to {self._target}."))

    async def _gates_to_open(self, cluster_version: Document) -> list[str]:
        """Gates to acknowledge now; raises UpdateError if one is closed that the user did not list."""
        if not leaves_minor(cluster_version, self._target, offer_of(cluster_version, self._target)):
            return []
        gates, acknowledged = await asyncio.gather(self._config_map(*_GATES), self._config_map(*_ACKNOWLEDGEMENTS))
        closed = gates_closed(gates, acknowledged, current_version(cluster_version))
        unlisted = {name: text for name, text in closed.items() if name not in self._options.acknowledge}
        if unlisted and not self._overrides.force:
            told = "; ".join(f"{name}: {text.rstrip('.')}" for name, text in unlisted.items())
            raise UpdateError(
                f"The update needs an administrator's acknowledgement ({told}). Do what it says, then list "
                f"{', '.join(unlisted)} in the option acknowledge. Nothing was started."
            )
        return [name for name in closed if name not in unlisted]

    async def _config_map(self, namespace: str, name: str) -> dict[str, str]:
        try:
            document = await self._read(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
        except ApiError as error:
            if error.status == 404:
                return {}
            raise
        return document.get("data") or {}

    def _channel_to_set(self, cluster_version: Document) -> str | None:
        wanted = self._options.channel
        return wanted if wanted and wanted != (cluster_version.get("spec") or {}).get("channel") else None

    async def _until_nothing_is_in_the_way(self) -> None:
        """Waits until acknowledgements and a new channel have taken effect."""
        ends = min(self._ends, time.monotonic() + (self._options.grace if self._done.anything else 0))
        while why := await self._obstacle():
            if time.monotonic() >= ends:
                self._refuse(why)
            self._tell([why])
            await asyncio.sleep(self._options.interval)

    async def _obstacle(self, *, settled: bool = True) -> str | None:
        look = self._last = await self._look()
        return obstacle(look.cluster_version, look.operators, self._target, self._overrides, settled=settled)

    @staticmethod
    def _refuse(why: str | None) -> None:
        if why:
            raise UpdateError(f"{why} No update was started.")

    async def _patch(self, patch: Mapping[str, Any]) -> None:
        await self._oc.patch("clusterversion", "version", patch)

    # Following it

    async def _follow(self, watch: Watch) -> None:
        """Polls until the update has finished; raises UpdateError if it doesn't."""
        grace = Grace(self._options.grace)
        while True:
            look, seen = await asyncio.gather(self._patiently(self._look), self._patiently(watch.observe))
            at = time.monotonic()
            if look is not None:
                self._last = look
                left = still_to_come(look, self._target, self._accepted)
                if not left:
                    return
                why = refused_for_good(look.cluster_version, self._target)
                if why:
                    raise UpdateError(
                        f"The update to {self._target} was requested, but the cluster-version operator calls the ClusterVersion invalid "
                        f"({why}); correct it (oc get clusterversion -o yaml), or clear the request with 'oc adm upgrade --clear', and "
                        "run again."
                    )
                other = superseded(look.cluster_version, self._target, self._head_before)
                if other:
                    raise UpdateError(
                        f"The update to {self._target} was abandoned halfway, because {other} was requested meanwhile. Find out who "
                        "did that (oc adm upgrade), and run again when that update has finished."
                    )
                lasting = grace.lasting(troubles(look, self._target, self._accepted), at)
                if lasting:
                    raise UpdateError(
                        f"The update to {self._target} has been failing for {duration(self._options.grace)}: "
                        f"{'; '.join(lasting)}. It continues in the cluster; fix that and run again to follow it "
                        "(oc adm must-gather collects what support needs)."
                    )
                self._tell(_mixed(seen) + left)
            if at >= self._ends:
                what = "; ".join(left) if look is not None else "the cluster did not answer"
                raise UpdateError(
                    f"The update to {self._target} did not finish within {duration(self._options.timeout)}: {what}. "
                    "It continues in the cluster; find out what is holding it up (oc adm upgrade, oc get clusteroperators), and run "
                    "again to follow it, with a longer timeout if it is only slow."
                )
            await asyncio.sleep(self._options.interval)

    async def _patiently(self, ask: Callable[[], Any]) -> Any:
        """None if the API server is briefly down or starting, as happens while masters are updated."""
        try:
            answer = await ask()
        except StorageUpgradeError as error:
            if not is_passing(error) and not self._may_be_starting(ask, error):
                raise
            self._tell([error.message])
            return None
        self._refused.pop(ask, None)
        return answer

    def _may_be_starting(self, ask: Callable[[], Any], error: StorageUpgradeError) -> bool:
        if not is_forbidden(error):
            return False
        return time.monotonic() - self._refused.setdefault(ask, time.monotonic()) < STARTING

    def _tell(self, left: list[str]) -> None:
        text = f"Waiting for OpenShift {self._target}: {'; '.join(clause.rstrip('.') for clause in left)}."
        if text != self._told:
            self._told = text
            fields = {"reasons": left[:_NAMED], "more": max(0, len(left) - _NAMED)}
            self._report(Event("waiting", text, fields))

    # Reading

    async def _look(self) -> Look:
        cluster_version, kube_api_server, operators = await asyncio.gather(
            self._cluster_version(), self._read(_KUBE_API_SERVER), self._read(_OPERATORS)
        )
        return Look(cluster_version, kube_api_server, tuple(operators.get("items") or ()))

    async def _cluster_version(self) -> dict[str, Any]:
        return await self._read(_CLUSTER_VERSION)

    async def _read(self, path: str) -> dict[str, Any]:
        """An object; retries while the server is briefly down."""
        for pause in _PAUSES:
            try:
                return await self._cluster.entry.get(path)
            except StorageUpgradeError as error:
                if not is_passing(error):
                    raise
            await asyncio.sleep(pause)
        return await self._cluster.entry.get(path)

    # What it returns

    def _result(self, watch: Watch, before: str) -> dict[str, Any]:
        look = self._last
        found, latest = masters(look.kube_api_server)
        head = newest(look.cluster_version)
        seen = watch.changes[-1][1] if watch.changes else Observation(())
        return {
            "changed": self._done.anything,
            "started": self._done.started,
            "acknowledged": self._done.acknowledged,
            "channel": self._done.channel or (look.cluster_version.get("spec") or {}).get("channel"),
            "version_before": before,
            "version": head.get("version"),
            "image": head.get("image"),
            "state": head.get("state"),
            "kubernetes_version": kubernetes_version(look.operators),
            "masters": [{"node": master.node, "revision": master.revision, "latest": latest} for master in found],
            "observed_at": now(),
            **moment(seen),
            "history": history(watch),
            "seconds": round(time.monotonic() - self._began, 1),
        }

    def _sentence(self, at: UpdateState, before: str) -> str:
        if at is UpdateState.DONE:
            return f"OpenShift is at {self._target}, and all masters are at their latest revision."
        if not self._check_mode:
            return (
                f"OpenShift was updated from {before} to {self._target}, and all masters are at their latest revision."
            )
        if at is not UpdateState.NOT_BEGUN:
            return f"The update to {self._target} is in progress and would be followed."
        first = [f"{', '.join(self._done.acknowledged)} acknowledged"] if self._done.acknowledged else []
        first += [f"channel {self._done.channel} set"] if self._done.channel else []
        return f"The update from {before} to {self._target} would be started{', with ' + ' and '.join(first) if first else ''}."

    def _not_waited_for(self) -> str:
        """A sentence on what the options accept and is still so; empty if nothing is."""
        accepted = still_accepted(self._last, self._target, self._accepted)
        return (
            f" Not waited for, as allow_upgrade_with_warnings or force is set: {'; '.join(accepted)}."
            if accepted
            else ""
        )


def _mixed(seen: Observation | None) -> list[str]:
    """The API servers' releases while they differ."""
    if seen is None:
        return []
    releases = {server.url: release_text(server) for server in seen.reports if server.error is None}
    if len(set(releases.values())) < 2:
        return []
    return [f"masters are mixed, {', '.join(f'{url} at {release}' for url, release in releases.items())}"]
