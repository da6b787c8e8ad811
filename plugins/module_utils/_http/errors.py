# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a request got no answer, in words that don't depend on the client library. Pure."""

from __future__ import annotations

import errno
import os
import re
import ssl

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    UnreachableCause,
    UnreachableError,
    UnreachableKind,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.tls import reason_of

_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)
# What OpenSSL says where the other end answers in plain HTTP, or anything else.
_NOT_TLS = (
    "wrong version number",
    "http request",
    "unknown protocol",
    "packet length too long",
    "record layer failure",
)

# What OpenSSL says about a certificate.
_EXPIRED = "has expired"
# What http.client says if a proxy refuses a tunnel.
_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")


class HandshakeEndedError(ConnectionResetError):
    """The other end closed the connection before TLS was established."""


_HANDSHAKE_ENDED = (HandshakeEndedError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


def out_of_files(error: BaseException) -> bool:
    """Whether something failed because this process, or the host, may open no more files; connections are files, too."""
    return isinstance(error, OSError) and error.errno in _NO_MORE_FILES


def transport_failure(url: str, failure: BaseException) -> UnreachableError:
    """The error for a failed request."""
    origin = _origin(url)
    chain = _chain(failure)
    if any(out_of_files(error) for error in chain):
        return UnreachableError(
            f"No connection to {origin} could be opened, because this process may open no more files; raise its limit "
            "(ulimit -n) and run again.",
            kind=UnreachableKind.EXHAUSTED,
        )
    names = [type(error).__name__ for error in chain]
    text = " ".join(str(error) for error in chain)
    if any(isinstance(error, ssl.SSLCertVerificationError) for error in chain) or "CERTIFICATE_VERIFY_FAILED" in text:
        return _unverified(origin, chain, text)
    if any(isinstance(error, _HANDSHAKE_ENDED) for error in chain):
        return UnreachableError(
            f"{origin} ended the connection during the TLS handshake; check that an API server is running there, as a load balancer with "
            "nothing behind it does that.",
            kind=UnreachableKind.RESET,
        )
    if any(isinstance(error, ssl.SSLError) for error in chain):
        return _tls_failure(origin, next(reason_of(error) for error in chain if isinstance(error, ssl.SSLError)))
    if _is_timeout(chain):
        return UnreachableError(f"{origin} did not answer in time.", kind=UnreachableKind.TIMEOUT)
    if any(name in ("gaierror", "ClientConnectorDNSError", "NameResolutionError") for name in names):
        return UnreachableError(f"The host name of {origin} can't be resolved.", kind=UnreachableKind.DNS)
    if any(isinstance(error, ConnectionRefusedError) for error in chain):
        return UnreachableError(
            f"{origin} refuses connections (is the API server running there?)", kind=UnreachableKind.REFUSED
        )
    if "NotHttpError" in names:
        return UnreachableError(
            f"{origin} does not answer in valid HTTP/1.1: {failure}; check the address and any proxy in front of it.",
            kind=UnreachableKind.RESET,
        )
    return UnreachableError(
        f"The connection to {origin} was lost or could not be made{_reason(chain)}.", kind=UnreachableKind.RESET
    )


def _unverified(origin: str, chain: list[BaseException], text: str) -> UnreachableError:
    """``text``: what the whole chain says."""
    why = next((str(error.verify_message) for error in chain if hasattr(error, "verify_message")), "").rstrip(".")
    return UnreachableError(
        f"The certificate of {origin} can't be verified{': ' + why if why else ''}; {_certificate_hint(why or text)}.",
        kind=UnreachableKind.TLS,
        cause=UnreachableCause.EXPIRED if _EXPIRED in (why or text) else UnreachableCause.CERTIFICATE,
    )


def _tls_failure(origin: str, reason: str) -> UnreachableError:
    if reason in _NOT_TLS:
        sentence = f"{origin} does not speak TLS; check the port, and whether the URL should begin with http://."
    else:
        sentence = f"TLS with {origin} failed ({reason}); check that the URL, ca_cert, client_cert and client_key fit together."
    return UnreachableError(sentence, kind=UnreachableKind.TLS)


def _is_timeout(chain: list[BaseException]) -> bool:
    return any(isinstance(error, TimeoutError) or "Timeout" in type(error).__name__ for error in chain)


def proxy_failure(url: str, proxy: str, failure: BaseException) -> UnreachableError | None:
    """The error for a request that failed at the proxy, which it names without its credentials; None if it got farther."""
    chain = _chain(failure)
    names = [type(error).__name__ for error in chain]
    answered = _TUNNEL.search(" ".join(str(error) for error in chain))
    if answered is not None:
        return refused_by_proxy(url, proxy, int(answered[1]))
    if "SOCKS5AuthError" in names:
        return refused_by_proxy(url, proxy, 407)
    if "SOCKS5Error" in names:
        why = next(str(error) for error in chain if type(error).__name__ == "SOCKS5Error").partition(": ")[2].lower()
        return _at_proxy(
            f"The proxy {proxy} can't reach {_origin(url)}{': ' + why if why else ''}.", UnreachableKind.RESET
        )
    if not {"ProxyError", "ProxyConnectionError", "GeneralProxyError"} & set(names):
        if not _is_timeout(chain):
            return None
        return UnreachableError(
            f"{_origin(url)} did not answer in time through the proxy {proxy}.", kind=UnreachableKind.TIMEOUT
        )
    if any(name in ("gaierror", "NameResolutionError") for name in names):
        return _at_proxy(
            f"The host name of the proxy {proxy} can't be resolved; check the option proxy.", UnreachableKind.DNS
        )
    if any(isinstance(error, ConnectionRefusedError) for error in chain):
        return _at_proxy(
            f"The proxy {proxy} refuses connections; check that it is running, and the option proxy.",
            UnreachableKind.REFUSED,
        )
    if _is_timeout(chain):
        return _at_proxy(f"The proxy {proxy} did not answer in time.", UnreachableKind.TIMEOUT)
    if any(isinstance(error, ssl.SSLError) for error in chain) or "SSLError" in names:
        return _at_proxy(
            f"TLS with the proxy {proxy} failed; if it is reached by HTTP, write http:// instead of https://.",
            UnreachableKind.PROXY,
        )
    return _at_proxy(
        f"The connection to the proxy {proxy} was lost or could not be made{_reason(chain)}.", UnreachableKind.RESET
    )


def refused_by_proxy(url: str, proxy: str, status: int) -> UnreachableError:
    """The error for a proxy that answers itself, with that status."""
    if status == 407:
        return _at_proxy(
            f"The proxy {proxy} requires a user and a password, or doesn't accept those it got (407); put them in the proxy's URL, or in "
            "proxy_headers.",
            UnreachableKind.PROXY,
        )
    if status >= 500:
        return _at_proxy(f"The proxy {proxy} can't reach {_origin(url)} ({status}).", UnreachableKind.RESET)
    return _at_proxy(
        f"The proxy {proxy} does not allow connections to {_origin(url)} ({status}); allow them there, or set no_proxy.",
        UnreachableKind.PROXY,
    )


def _at_proxy(message: str, kind: UnreachableKind) -> UnreachableError:
    return UnreachableError(message, kind=kind, cause=UnreachableCause.PROXY)


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def _certificate_hint(why: str) -> str:
    if _EXPIRED in why:
        return "renew it (with kubeadm: kubeadm certs renew all)"
    if "not yet valid" in why:
        return "check the clocks of both hosts"
    if "match" in why.lower() or "not valid for" in why:
        return "set tls_server_name to a name that the certificate has, such as kubernetes.default.svc"
    return "check ca_cert"


def _reason(chain: list[BaseException]) -> str:
    """What the operating system says, or this collection; other libraries name their own objects."""
    for error in chain:
        if isinstance(error, OSError) and error.errno:
            return f": {os.strerror(error.errno).lower()}"
        if isinstance(error, ConnectionError) and error.args:
            return f": {error}"
    return ""


def _chain(failure: BaseException) -> list[BaseException]:
    """An error and what caused it."""
    chain: list[BaseException] = []
    current: BaseException | None = failure
    while current is not None and current not in chain:
        chain.append(current)
        inner = current.__cause__ or current.__context__
        reason = getattr(current, "reason", None)
        current = reason if isinstance(reason, BaseException) else inner
    return chain
