# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials that end: a token file that is replaced, a credential plugin's token or certificate. They are renewed in time, and
when a server refuses them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import StorageUpgradeError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.timestamps import utc_now
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.credential_plugin import Issued, run_plugin
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.kubeconfig import KubeContext

# client-go reads token files again after a minute, less ten seconds for clocks that differ.
_FILE_READ_EVERY = 30.0
# Plugins are run again when a tenth of their credentials' lifetime is left, but not earlier than this many seconds before the end.
_BEFORE_THE_END = 60.0
# However many requests are refused, a plugin isn't run more often.
_PLUGIN_EVERY = 5.0


class Token(Protocol):
    """Where the Authorization header comes from.

    ``header``: the current one, None for no header. ``version`` rises with each change of the credentials.
    ``problem``: why renewing them failed, in a sentence; None if it didn't.
    """

    header: str | None
    version: int
    problem: str | None

    async def in_time(self) -> None:
        """Renews credentials that end soon; called before each request. Keeps the old ones if that fails."""

    async def after_refusal(self, refused: int) -> bool:
        """A server refused the credentials of that ``version`` with 401: whether there are others now."""


class FileToken:
    """A file that something else replaces, as a kubelet does with a service account's token. Raises OSError if it can't be read."""

    def __init__(self, path: str, otherwise: str | None = None) -> None:
        self.problem: str | None = None
        self.header: str | None = f"Bearer {otherwise}" if otherwise else None
        self.version = 0
        self._path = path
        self._read_at = 0.0
        try:
            self._read()
        except OSError:
            if otherwise is None:
                raise

    def _read(self) -> None:
        self._read_at = time.monotonic()
        with open(self._path, encoding="utf-8") as file:
            token = file.read().strip()
        header = f"Bearer {token}"
        if token and header != self.header:
            self.header = header
            self.version += 1

    async def in_time(self) -> None:
        if time.monotonic() - self._read_at < _FILE_READ_EVERY:
            return
        try:
            self._read()
            self.problem = None
        except OSError as error:
            self.problem = f"The token file {self._path} can no longer be read: {error.strerror}."

    async def after_refusal(self, refused: int) -> bool:
        if self.version == refused:
            self._read_at = time.monotonic() - _FILE_READ_EVERY
            await self.in_time()
        return self.version != refused


class PluginToken:
    """What a credential plugin issues. It is run once here, so that what is wrong with it is known at once (BadInputError).

    ``show``: takes a client certificate and its key, in PEM, for the connections that are opened from now on.
    """

    def __init__(self, context: KubeContext, show: Callable[[str, str], None]) -> None:
        self.header: str | None = None
        self.problem: str | None = None
        self.version = 0
        self._context = context
        self._show = show
        self._renew_at: float | None = None
        self._tried_at: float | None = None
        self._lock: asyncio.Lock | None = None
        self._take(run_plugin(context))

    def _take(self, issued: Issued) -> None:
        self.header = f"Bearer {issued.token}" if issued.token else None
        if issued.certificate and issued.key:
            self._show(issued.certificate, issued.key)
        self.version += 1
        self.problem = None
        self._renew_at = None
        if issued.until is not None:
            left = (issued.until - utc_now()).total_seconds()
            self._renew_at = time.monotonic() + left - min(_BEFORE_THE_END, max(left, 0.0) / 10)

    async def in_time(self) -> None:
        if self._renew_at is not None and time.monotonic() >= self._renew_at:
            await self._renew(self.version)

    async def after_refusal(self, refused: int) -> bool:
        await self._renew(refused)
        return self.version != refused

    async def _renew(self, known: int) -> None:
        """Runs the plugin in a thread, unless there is something newer than ``known``, or that was tried a moment ago."""
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            now = time.monotonic()
            if self.version != known or (self._tried_at is not None and now - self._tried_at < _PLUGIN_EVERY):
                return
            self._tried_at = now
            try:
                self._take(await asyncio.to_thread(run_plugin, self._context))
            except StorageUpgradeError as error:
                self.problem = error.message
