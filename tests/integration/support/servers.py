# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTPS servers for tests: webhooks and extension servers that a cluster calls, and a proxy that injects faults."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import web

from tests.control_plane.certificates import Authority
from tests.control_plane.cluster import Cluster

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpsServer:
    """Answers on the bridge of a cluster's hosts, in a thread of its own, until the end of the ``with`` block."""

    def __init__(self, cluster: Cluster, handler: Handler) -> None:
        self.address = cluster.network.gateway
        self.port = 0
        self._handler = handler
        folder = cluster.folder / "certificates"
        self._pair = Authority(folder, "ca").issue("test-server", "test-server", addresses=[self.address])
        self.ca_bundle = base64.b64encode(cluster.certificate("ca").cert.read_bytes()).decode()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"https://{self.address}:{self.port}"

    def __enter__(self) -> HttpsServer:
        self._thread.start()
        assert self._started.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._pair.cert, self._pair.key)

        async def start() -> web.ServerRunner:
            runner = web.ServerRunner(web.Server(self._handler), shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, self.address, 0, ssl_context=context)
            await site.start()
            self.port = runner.addresses[0][1]
            return runner

        runner = self._loop.run_until_complete(start())
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._end(runner))

    async def _end(self, runner: web.ServerRunner) -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await runner.cleanup()


@dataclass
class Fault:
    """What happens to one request. ``passed_on``: the API server does it, and only its answer is lost."""

    status: int = 0
    retry_after: int | None = None
    reset: bool = False
    silence: float = 0.0
    passed_on: bool = False


@dataclass
class Seen:
    """One request that came to the proxy; ``status`` and ``answered`` once the API server has answered."""

    method: str
    path: str
    query: str
    at: float = field(default_factory=time.monotonic)
    status: int = 0
    answered: float = 0.0


class FaultyServer(HttpsServer):
    """An API server as a client sees it on a bad day: requests that ``fault`` doesn't take care of go to the real one.

    ``rewrite`` may change the body of a good answer.
    """

    def __init__(self, cluster: Cluster, master: str) -> None:
        super().__init__(cluster, self._answer)
        self.seen: list[Seen] = []
        self.fault: Callable[[Seen, int], Fault | None] = lambda seen, times: None
        self.rewrite: Callable[[Seen, bytes], bytes] = lambda seen, body: body
        self._times: Counter[tuple[str, str, str]] = Counter()
        self._target = cluster.url(master)
        admin = cluster.certificate("admin")
        self._context = ssl.create_default_context(cafile=str(cluster.certificate("ca").cert))
        self._context.load_cert_chain(admin.cert, admin.key)
        self._session: aiohttp.ClientSession | None = None
        self.kubeconfig = self._write_kubeconfig(cluster)

    @property
    def options(self) -> dict[str, Any]:
        """The options of a module that is to talk to this server alone."""
        return {"kubeconfig": str(self.kubeconfig), "servers": [self.url]}

    def __enter__(self) -> FaultyServer:
        super().__enter__()
        text = self.kubeconfig.read_text(encoding="utf-8")
        self.kubeconfig.write_text(text.replace("https://proxy", self.url), encoding="utf-8")
        return self

    def _write_kubeconfig(self, cluster: Cluster) -> Path:
        path = cluster.folder / "kubeconfig-faulty"
        document = json.loads(cluster.kubeconfig.read_text(encoding="utf-8"))
        document["clusters"][0]["cluster"]["server"] = "https://proxy"
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    async def _end(self, runner: web.ServerRunner) -> None:
        await super()._end(runner)
        if self._session is not None:
            await self._session.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        seen = Seen(request.method, request.path, request.query_string)
        self.seen.append(seen)
        key = (seen.method, seen.path, seen.query)
        self._times[key] += 1
        body = await request.read()
        fault = self.fault(seen, self._times[key])
        if fault is None:
            return await self._pass_on(request, seen, body)
        if fault.passed_on:
            answer = await self._pass_on(request, seen, body)
            if answer.status >= 400:
                # The API server did not do it (just after a CRD was edited it says 429), so there is nothing to lose yet.
                self._times[key] -= 1
                return answer
        if fault.silence:
            await asyncio.sleep(fault.silence)
        if fault.reset or fault.silence:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": fault.status, "message": "a fault"}
        return web.json_response(status, status=fault.status, headers=headers)

    async def _pass_on(self, request: web.BaseRequest, seen: Seen, body: bytes) -> web.Response:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context, limit=0))
        kept = {name: request.headers[name] for name in ("Accept", "Content-Type") if name in request.headers}
        async with self._session.request(
            request.method, self._target + request.raw_path, headers=kept, data=body or None
        ) as answer:
            content = await answer.read()
            seen.status, seen.answered = answer.status, time.monotonic()
            if answer.status == 200:
                content = await asyncio.to_thread(self.rewrite, seen, content)
            names = ("Content-Type", "Retry-After", "Date")
            headers = {name: answer.headers[name] for name in names if name in answer.headers}
            return web.Response(status=answer.status, body=content, headers=headers)


def webhook(decide: Callable[[dict[str, Any]], tuple[bool, float]]) -> Handler:
    """A validating webhook; ``decide`` returns for an AdmissionReview's request whether it is allowed, and after how long."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        review = json.loads(await request.read())["request"]
        allowed, seconds = decide(review)
        await asyncio.sleep(seconds)
        response = {"uid": review["uid"], "allowed": allowed}
        if not allowed:
            response["status"] = {"code": 403, "message": "frozen by its owner"}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})

    return answer
