# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of storage_migrate as one typed value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.options import (
    require_not_negative,
    require_positive,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.options import ClusterOptions
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.managed_fields import (
    KEEP,
    PRUNE,
    REWRITE,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.plan import Selection
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.store import StoreOptions


@dataclass(frozen=True)
class MigrateOptions:
    """What the user asked for; each field is the module's option of that name, except for these:

    ``selection``: the options select, resources and exclude.
    ``impact``: see engines/pace.py. ``max_rate``: objects per second, 0 for no limit. ``etcd_max_rate``: keys per second, likewise.
    ``retries``: tries for one object. ``page_size``: objects in one page of a list.
    ``stop_on_error``: ``on_error: stop``.
    ``managed_fields``: ``prune`` also for the old option prune_managed_fields.
    ``timeout``: seconds for the whole run, None for no limit. ``request_timeout``: the API servers' own, in seconds.
    ``controller_timeout``: seconds without progress after which a controller counts as stalled.
    ``etcd``: for ``select: stale``, and for its space. ``etcd_quota``: bytes, None if not given.
    ``compaction_timeout``: seconds for which writes may wait for compaction.
    ``encryption_config``, ``encryption_keys``: for ``select: stale``.
    """

    cluster: ClusterOptions = ClusterOptions()
    store: StoreOptions = StoreOptions()
    selection: Selection = Selection()
    engine: str = "direct"
    keep_migrations: bool = False
    controller_timeout: float = 300.0
    require_convergence: bool = True
    workers: int = 64
    impact: str = "normal"
    max_rate: float = 0.0
    page_size: int = 500
    retries: int = 10
    stop_on_error: bool = False
    trim_stored_versions: bool = True
    managed_fields: str = KEEP
    timeout: float | None = None
    request_timeout: float = 60.0
    drop_unknown_fields: tuple[str, ...] = ()
    failures_file: Path | None = None
    etcd: Mapping[str, Any] | None = None
    encryption_config: str | None = None
    encryption_keys: tuple[str, ...] = ()
    etcd_max_rate: float = 0.0
    etcd_quota: int | None = None
    compaction_timeout: float = 900.0

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> MigrateOptions:
        """From the module's parameters. Raises BadInputError."""
        _refuse_nonsense(params)
        managed_fields = PRUNE if params.get("prune_managed_fields") else params["managed_fields"]
        failures_file = params.get("failures_file")
        return cls(
            cluster=ClusterOptions.from_params(params),
            store=StoreOptions.from_params(params),
            selection=Selection(
                params["select"],
                tuple(params.get("resources") or ()),
                tuple(params.get("exclude") or ()),
                managed_fields,
            ),
            engine=params["engine"],
            keep_migrations=params["keep_migrations"],
            controller_timeout=params["controller_timeout"],
            require_convergence=params["require_convergence"],
            workers=params["workers"],
            impact=params["impact"],
            max_rate=params["max_rate"],
            page_size=params["page_size"],
            retries=params["retries"],
            stop_on_error=params["on_error"] == "stop",
            trim_stored_versions=params["trim_stored_versions"],
            managed_fields=managed_fields,
            timeout=params.get("timeout"),
            request_timeout=params["request_timeout"],
            drop_unknown_fields=tuple(params.get("drop_unknown_fields") or ()),
            failures_file=Path(failures_file).expanduser() if failures_file else None,
            etcd=params.get("etcd"),
            encryption_config=params.get("encryption_config"),
            encryption_keys=tuple(params.get("encryption_keys") or ()),
            etcd_max_rate=params["etcd_max_rate"],
            etcd_quota=params.get("etcd_quota"),
            compaction_timeout=params["compaction_timeout"],
        )


def _refuse_nonsense(params: Mapping[str, Any]) -> None:
    positive = ["workers", "page_size", "retries", "timeout", "controller_timeout", "request_timeout"]
    require_positive(params, [*positive, "etcd_quota", "compaction_timeout"])
    require_not_negative(params, ["max_rate", "etcd_max_rate"])
    if params["page_size"] > 10000:
        raise BadInputError("page_size must be at most 10000; larger pages strain the API servers.")
    if params.get("prune_managed_fields") and params["managed_fields"] == REWRITE:
        raise BadInputError("prune_managed_fields contradicts managed_fields: rewrite; leave it out.")
    failures_file = params.get("failures_file")
    if failures_file and Path(failures_file).expanduser().is_dir():
        raise BadInputError(f"failures_file {failures_file} is a directory; name a file.")
