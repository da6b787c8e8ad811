# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kind and cause a failed request gets. Real sockets: tests/integration/test_http.py and test_proxy.py."""

from __future__ import annotations

import socket
import ssl

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    UnreachableCause,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.errors import (
    proxy_failure,
    refused_by_proxy,
    transport_failure,
)

URL, PROXY = "https://10.0.0.1:2379/v3/kv/range", "http://proxy:3128"


def unverified(why: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {why}")
    error.verify_message = why
    return error


def refused_handshake(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}]")
    error.reason = reason
    return error


class ProxyError(Exception):
    """As urllib3's, which is known by its name."""


def at_proxy(cause: BaseException) -> BaseException:
    error = ProxyError("Unable to connect to proxy")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (unverified("certificate has expired"), UnreachableCause.EXPIRED),
        (OSError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired"), UnreachableCause.EXPIRED),
        (unverified("self-signed certificate"), UnreachableCause.CERTIFICATE),
        (refused_handshake("TLSV13_ALERT_CERTIFICATE_REQUIRED"), None),
        (refused_handshake("WRONG_VERSION_NUMBER"), None),
    ],
)
def test_what_is_wrong_with_tls(failure: BaseException, cause: UnreachableCause | None) -> None:
    error = transport_failure(URL, failure)
    assert (error.kind, error.cause) == (UnreachableKind.TLS, cause)


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (ConnectionRefusedError(), UnreachableKind.REFUSED),
        (TimeoutError(), UnreachableKind.TIMEOUT),
        (socket.gaierror(), UnreachableKind.DNS),
        (ConnectionResetError(), UnreachableKind.RESET),
        (OSError(24, "Too many open files"), UnreachableKind.EXHAUSTED),
    ],
)
def test_without_a_proxy_only_the_kind_is_known(failure: BaseException, kind: UnreachableKind) -> None:
    error = transport_failure(URL, failure)
    assert (error.kind, error.cause) == (kind, None) and error.message.count("https://10.0.0.1:2379") == 1


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (at_proxy(ConnectionRefusedError()), UnreachableKind.REFUSED),
        (at_proxy(TimeoutError()), UnreachableKind.TIMEOUT),
        (at_proxy(socket.gaierror()), UnreachableKind.DNS),
        (at_proxy(ConnectionResetError()), UnreachableKind.RESET),
        (at_proxy(refused_handshake("WRONG_VERSION_NUMBER")), UnreachableKind.PROXY),
        (OSError("Tunnel connection failed: 403 Forbidden"), UnreachableKind.PROXY),
        (OSError("Tunnel connection failed: 407 Proxy Authentication Required"), UnreachableKind.PROXY),
        (OSError("Tunnel connection failed: 502 Bad Gateway"), UnreachableKind.RESET),
    ],
)
def test_a_failure_at_the_proxy_has_it_as_its_cause(failure: BaseException, kind: UnreachableKind) -> None:
    error = proxy_failure(URL, PROXY, failure)
    assert isinstance(error, UnreachableError)
    assert (error.kind, error.cause) == (kind, UnreachableCause.PROXY) and PROXY in error.message


def test_what_got_past_the_proxy_is_not_its_failure() -> None:
    assert proxy_failure(URL, PROXY, ConnectionResetError()) is None
    late = proxy_failure(URL, PROXY, TimeoutError())
    assert late is not None and (late.kind, late.cause) == (UnreachableKind.TIMEOUT, None)
    assert refused_by_proxy(URL, PROXY, 407).cause is UnreachableCause.PROXY
