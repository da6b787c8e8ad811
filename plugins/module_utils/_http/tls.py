# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS as Go's clients do it (kubectl, etcdctl): which certificates count, and what is wrong with one's own."""

from __future__ import annotations

import re
import ssl
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import NoReturn

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
# Parts of a certificate in DER (RFC 5280): its validity, two times in a row; the extension extKeyUsage; clientAuth and any usage.
_VALIDITY = re.compile(rb"((?:\x17\x0d\d{12}Z|\x18\x0f\d{14}Z))((?:\x17\x0d\d{12}Z|\x18\x0f\d{14}Z))")
_USAGES = re.compile(rb"\x06\x03\x55\x1d\x25(?:\x01\x01\xff)?\x04(.)", re.DOTALL)
_CLIENT_USAGES = (b"\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02", b"\x06\x04\x55\x1d\x25\x00")


class EncryptedKeyError(ValueError):
    """A private key is encrypted; nobody is ever asked for its passphrase."""


def client_context(ca_path: str | None = None, ca_data: str | bytes | None = None) -> ssl.SSLContext:
    """For connections to servers that one of the CAs vouches for, or one of the system's if there are none.

    Raises OSError or ValueError if the CAs can't be read.
    """
    context = ssl.create_default_context(cafile=ca_path, cadata=ca_data)
    # As in Go, any given certificate may be where a chain ends, even one that isn't a root; and the CAs of old clusters, which lack
    # extensions that OpenSSL's strict mode (Python's default since 3.13) wants, are valid.
    context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    return context


def load_client_certificate(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    """Loads the client certificate so that it is sent without the CA's; both are paths. Raises OSError or ValueError.

    If a file contains one certificate, OpenSSL adds its issuers from the CAs that verify servers. An API server then
    checks three signatures for each request instead of one, since it tries the sent certificates as paths to each of
    its CAs: a tenth of all its work for a small patch. Python can't turn that off, but OpenSSL leaves a chain alone,
    even if it is the same certificate twice, and a server doesn't check certificates that lead nowhere.
    """
    found = _CERTIFICATE.findall(Path(certificate).read_bytes())
    if len(found) != 1:
        context.load_cert_chain(certificate, key or certificate, no_passphrase)
        return
    with tempfile.NamedTemporaryFile(suffix=".crt") as chain:
        chain.write(b"\n".join([*found, *found, b""]))
        chain.flush()
        context.load_cert_chain(chain.name, key or certificate, no_passphrase)


def load_client_pem(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """The same for a certificate and a key in PEM that are in no file."""
    with tempfile.NamedTemporaryFile(suffix=".crt") as chain, tempfile.NamedTemporaryFile(suffix=".key") as key_file:
        for file, pem in ((chain, certificate), (key_file, key)):
            file.write(pem.encode())
            file.flush()
        load_client_certificate(context, chain.name, key_file.name)


def no_passphrase() -> NoReturn:
    """For ``load_cert_chain``: without a callback OpenSSL prompts on the terminal. Raises EncryptedKeyError."""
    raise EncryptedKeyError("the key is encrypted")


def reason_of(error: BaseException) -> str:
    """The reason of an OSError or SSLError without paths, addresses or library names."""
    if isinstance(error, EncryptedKeyError):
        return "the key is encrypted, and the module can't ask for its passphrase; decrypt it with openssl pkey"
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "not a valid PEM file").lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "not a valid file"


def client_certificate_problem(path: str | None, name: str) -> str | None:
    """What is wrong with a client certificate on its own; None if nothing is, or if that is unknown."""
    try:
        with open(path or "", encoding="ascii", errors="replace") as file:
            pem = file.read()
        begin = pem.index("-----BEGIN CERTIFICATE-----")
        end = pem.index("-----END CERTIFICATE-----", begin) + len("-----END CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(pem[begin:end])
    except (OSError, ValueError):
        return None
    return certificate_problem(der, name, datetime.now(timezone.utc))


def certificate_problem(der: bytes, name: str, now: datetime) -> str | None:
    """Whether a certificate has expired, or is not a client certificate. Pure."""
    validity = _VALIDITY.search(der)
    if validity is not None:
        digits = validity[2][2:-1].decode()
        # Two-digit years mean 1950 to 2049 (RFC 5280, 4.1.2.5.1).
        century = "" if len(digits) == 14 else "19" if digits >= "50" else "20"
        try:
            until = datetime.strptime(century + digits, "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
        except ValueError:
            return None
        if until < now:
            return f"{name} expired on {until:%Y-%m-%d %H:%M} UTC; renew it."
    usages = _USAGES.search(der)
    if usages is not None:
        listed = der[usages.end() : usages.end() + usages[1][0]]
        if not any(usage in listed for usage in _CLIENT_USAGES):
            return f"{name} is not a client certificate (its extended key usage lacks clientAuth); use one that is."
    return None
