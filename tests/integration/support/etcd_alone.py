# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real etcd without API servers, for how it is reached: authentication, certificates, ports, members that don't answer."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.control_plane import build, releases
from tests.control_plane.certificates import Authority, Pair
from tests.control_plane.processes import wait_for

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


class EtcdAlone:
    """One member of ``members``; its own certificates unless another authority is given. ``stop`` it."""

    def __init__(
        self, folder: Path, *flags: str, name: str = "a", peers: Mapping[str, int] | None = None, version: str = ""
    ) -> None:
        authority = Authority(folder, "ca")
        server = authority.issue(f"server-{name}", "server", addresses=[HOST])
        self.ca = authority.pair
        self.client = authority.issue("client", "client")
        self.without_name = authority.issue("without-name", "", organizations=["people"])
        self.expired = authority.issue("expired", "expired", expired=True)
        self.for_servers = authority.issue("for-servers", "server", usages=[ExtendedKeyUsageOID.SERVER_AUTH])
        peers = peers or {name: free_port()}
        self.url = f"https://{HOST}:{free_port()}"
        program = build.binaries(build.control_plane(releases.with_etcd(version) if version else releases.NEWEST))
        peer_url = f"http://{HOST}:{peers[name]}"
        command = [
            str(program / "etcd"),
            f"--name={name}",
            f"--data-dir={folder / name}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer_url}",
            f"--initial-advertise-peer-urls={peer_url}",
            "--initial-cluster=" + ",".join(f"{peer}=http://{HOST}:{port}" for peer, port in peers.items()),
            f"--cert-file={server.cert}",
            f"--key-file={server.key}",
            f"--trusted-ca-file={self.ca.cert}",
            "--client-cert-auth=true",
            "--unsafe-no-fsync",
            "--log-level=error",
            *flags,
        ]
        with (folder / f"{name}.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def option(self, pair: Pair | None = None, **more: Any) -> dict[str, Any]:
        """The option ``etcd``."""
        pair = pair or self.client
        files = {"ca_cert": str(self.ca.cert), "client_cert": str(pair.cert), "client_key": str(pair.key)}
        return {"endpoints": [self.url], **files, **more}

    def post(self, path: str, body: Mapping[str, Any], pair: Pair | None = None) -> dict[str, Any]:
        pair = pair or self.client
        context = ssl.create_default_context(cafile=str(self.ca.cert))
        context.load_cert_chain(pair.cert, pair.key)
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def put(self, keys: Sequence[str]) -> None:
        for key in keys:
            value = b'{"kind":"ConfigMap","apiVersion":"v1"}'
            self.post(
                "/v3/kv/put",
                {"key": base64.b64encode(key.encode()).decode(), "value": base64.b64encode(value).decode()},
            )

    def await_ready(self) -> EtcdAlone:
        def ready() -> bool:
            try:
                return bool(self.post("/v3/kv/range", {"key": base64.b64encode(b"a").decode()}))
            except (OSError, urllib.error.URLError):
                return False

        assert wait_for(ready, 60.0), "etcd did not come up"
        return self

    def pause(self) -> None:
        """It holds its connections and answers nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
