# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a request got no answer, in words that don't depend on the client library. Pure."""

from __future__ import annotations

import errno
import ssl

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import UnreachableKind

_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)


def out_of_files(error: BaseException) -> bool:
    """Whether something failed because this process, or the host, may open no more files; connections are files, too."""
    return isinstance(error, OSError) and error.errno in _NO_MORE_FILES


def transport_failure(url: str, failure: BaseException) -> tuple[UnreachableKind, str]:
    """(kind, sentence) for a failed request."""
    origin = "/".join(url.split("/", 3)[:3])
    chain = _chain(failure)
    if any(out_of_files(error) for error in chain):
        return (
            UnreachableKind.EXHAUSTED,
            f"No connection to {origin} could be opened, because this process may open no more files; raise its limit "
            "(ulimit -n) and run again.",
        )
    names = [type(error).__name__ for error in chain]
    text = " ".join(str(error) for error in chain)
    if any(isinstance(error, ssl.SSLCertVerificationError) for error in chain) or "CERTIFICATE_VERIFY_FAILED" in text:
        why = next((str(error.verify_message) for error in chain if hasattr(error, "verify_message")), "").rstrip(".")
        hint = (
            "set tls_server_name to a name that the certificate has, such as kubernetes.default.svc"
            if "match" in why.lower() or "doesn't match" in text or "not valid for" in text
            else "check ca_cert"
        )
        return UnreachableKind.TLS, f"The certificate of {origin} can't be verified{': ' + why if why else ''}; {hint}."
    if any(isinstance(error, ssl.SSLError) for error in chain):
        return (
            UnreachableKind.TLS,
            f"TLS with {origin} failed; check that the URL, ca_cert, client_cert and client_key fit together.",
        )
    if any(isinstance(error, TimeoutError) or "Timeout" in name for error, name in zip(chain, names)):
        return UnreachableKind.TIMEOUT, f"{origin} did not answer in time."
    if any(name in ("gaierror", "ClientConnectorDNSError", "NameResolutionError") for name in names):
        return UnreachableKind.DNS, f"The host name of {origin} can't be resolved."
    if any(isinstance(error, ConnectionRefusedError) for error in chain):
        return UnreachableKind.REFUSED, f"{origin} refuses connections; is the API server running there?"
    if "NotHttpError" in names:
        return (
            UnreachableKind.RESET,
            f"{origin} does not answer in valid HTTP/1.1: {failure}; check the address and any proxy in front of it.",
        )
    return UnreachableKind.RESET, f"The connection to {origin} was lost or could not be made."


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
