# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a list of a custom resource may begin so that it counts for persisting and trimming. Pure.

After a CRD was edited, an API server drops the storage that served the CRD, but earlier requests
keep it until they end (k8s.io/apiextensions-apiserver, pkg/apiserver/customresource_handler.go:
updateCustomResourceDefinition and removeDeadStorage call tearDown, which waits for the requests in
crdInfo.waitGroup, at most twice the request timeout; each request writes with the crdInfo that it took when
it arrived, in its storageVersion). Such a write may store the old version long after discovery reports
the new one. A request ends with the API server's --request-timeout (k8s.io/apiserver,
pkg/endpoints/filters/request_deadline.go), 60 s by default. So a list that begins when every API server
has had the current spec for longer than that misses no object in an old version. A conflict ("somebody else
wrote it since") is safe for the same reason: that write came later.

Any one of three kinds of evidence suffices, and each holds only for one uid and one generation of the CRD:

1. This run saw that every API server had this spec, and that much time has passed since.
2. An earlier run, or a baseline, saw it, by the servers' own clocks.
3. The CRD's own record: nobody edited its spec for much longer (see quiet_since in _versions/crd_identity.py).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import parse_time, seconds_text
from ansible_collections.kube_storage.upgrade.plugins.module_utils._state.state import KnownCrd, State
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.crd_identity import CrdIdentity, CrdLook

REQUEST_TIMEOUT = 60.0
# Time for an API server to act on its cache of CRDs, and for etcd to finish the last requests.
_GRACE = 5.0
# The times in a CRD may come from the clock of any current or former server.
_QUIET_AT_LEAST, _QUIET_TIMES = 600.0, 5.0


@dataclass(frozen=True)
class _Sighting:
    """``since``: when this run first saw every API server have this CRD, in seconds of time.monotonic()."""

    identity: CrdIdentity | None
    since: float


class Settling:
    """What is known about each CRD, and how much longer its list must wait; all times in seconds."""

    def __init__(self, request_timeout: float) -> None:
        self._request_timeout = request_timeout
        self._look: CrdLook | None = None
        self._seen: dict[str, _Sighting] = {}
        self._on_record: dict[str, KnownCrd] = {}

    @property
    def needed(self) -> float:
        """How long every API server must have had the current spec."""
        return self._request_timeout + _GRACE

    def take(self, look: CrdLook, names: Collection[str], state: State) -> None:
        """Notes what is now observed about these CRDs, and what is on record about them."""
        self._look = look
        for name in names:
            identity = look.identity(name)
            before = self._seen.get(name)
            if look.facts is not None and not look.everywhere:
                if before is not None and before.identity != identity:
                    del self._seen[name]
            elif before is None or before.identity != identity:
                self._seen[name] = _Sighting(identity, look.at)
            known = state.of(name).crd
            if known is not None:
                self._on_record[name] = known

    def left(self, name: str, hashed: str, now: float) -> float | None:
        """How much longer the list of this resource must wait; 0.0: not at all; None: nothing is known to wait for.

        ``now``: time.monotonic(). If CRDs may not be read, the wait counts from the first observation, which is no
        evidence, but better than nothing.
        """
        look, sighting = self._look, self._seen.get(name)
        if look is None:
            return None
        waited = [] if sighting is None else [now - sighting.since]
        facts = look.of(name)
        if facts is not None and look.earliest is not None:
            known = self._on_record.get(name)
            if known is not None and known.identity == facts.identity and known.hash == hashed:
                seen_at = parse_time(known.seen_at)
                if seen_at is not None:
                    # Both are whole seconds.
                    waited.append((look.earliest - seen_at).total_seconds() - 1.0 + now - look.at)
            if facts.quiet_since is not None:
                quiet = (look.earliest - facts.quiet_since).total_seconds()
                if quiet >= max(_QUIET_AT_LEAST, _QUIET_TIMES * self._request_timeout):
                    return 0.0
        return max(0.0, self.needed - max(waited)) if waited else None


def sightings(look: CrdLook, hashes: Mapping[str, str]) -> dict[str, KnownCrd]:
    """The CRDs that every API server had, by the latest of their clocks, to be recorded for later runs.

    ``hashes``: what all servers agree on, by resource.
    """
    if look.facts is None or not look.everywhere or look.latest is None:
        return {}
    at = seconds_text(look.latest)
    return {
        name: KnownCrd(facts.identity, hashes[name], at)
        for name, facts in look.facts.items()
        if name in hashes and not facts.deleting
    }
