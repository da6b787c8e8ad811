# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Only the client's certificate is sent to a server, without the CA's."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.tls import load_client_certificate

from tests.control_plane.certificates import Authority, Pair


def _seen_by_server(load: Callable[[ssl.SSLContext, str, str], None], folder: Path, client: Pair) -> set[bytes]:
    """The certificates that a server is shown, in a handshake in memory."""
    authority = Authority(folder, "ca")
    pair = authority.issue("server", "server", dns_names=["server"])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pair.cert, pair.key)
    serving.load_verify_locations(authority.pair.cert)
    serving.verify_mode = ssl.CERT_REQUIRED
    asking = ssl.create_default_context(cafile=str(authority.pair.cert))
    load(asking, str(client.cert), str(client.key))
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = asking.wrap_bio(back, there, server_hostname="server")
    far = serving.wrap_bio(there, back, server_side=True)
    for side in (near, far, near, far):
        with suppress(ssl.SSLWantReadError):
            side.do_handshake()
    # Python has no public way to this before 3.13.
    return {bytes(shown.public_bytes(2)) for shown in far._sslobj.get_unverified_chain()}


def test_a_certificate_is_sent_without_the_ca(tmp_path: Path) -> None:
    client = Authority(tmp_path, "ca").issue("client", "admin")
    alone = {ssl.PEM_cert_to_DER_cert(client.cert.read_text(encoding="utf-8"))}
    usual = _seen_by_server(lambda context, cert, key: context.load_cert_chain(cert, key), tmp_path, client)
    if usual == alone:
        pytest.skip("this OpenSSL does not add issuers on its own")
    assert _seen_by_server(load_client_certificate, tmp_path, client) == alone


def test_a_chain_is_sent_as_it_is(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    client = authority.issue("client", "admin")
    with open(client.cert, "ab") as file:
        file.write(authority.pair.cert.read_bytes())
    assert len(_seen_by_server(load_client_certificate, tmp_path, client)) == 2


def test_certificate_and_key_may_share_a_file(tmp_path: Path) -> None:
    client = Authority(tmp_path, "ca").issue("client", "admin")
    with open(client.cert, "ab") as file:
        file.write(client.key.read_bytes())
    both = Pair(client.cert, client.cert)
    assert len(_seen_by_server(load_client_certificate, tmp_path, both)) == 1
