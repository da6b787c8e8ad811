# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Turns a module's auth options into everything needed to talk to any API server of the cluster.

The options are read by kubernetes.core's own code, so that they, their environment variables and
their precedence are exactly those that its users know. Only its credentials are used: discovery
through its client is cached and turns errors into empty lists, which a guard must not rely on.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import TransportSettings

_CREDENTIALS_KEPT = 30.0
_OWN_AUTHORITIES = 10  # more than that is the system's whole store
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")


@dataclass(frozen=True)
class Connection:
    """One cluster as a user reaches it: the URL of the kubeconfig, how to connect, and who they are.

    ``authorize`` returns the headers of a request; it may run a credential plugin of the kubeconfig.
    """

    url: str
    transport: TransportSettings
    authorize: Callable[[], list[tuple[str, str]]] = field(repr=False)


def normalize_url(url: str) -> str:
    """``https://10.0.0.11:6443`` from a user's input; raises BadInputError if that isn't a server URL."""
    text = url.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        shown = text if "@" not in text else "(hidden, as it holds credentials)"
        raise BadInputError(f"'{shown}' is not the URL of an API server; write it like https://10.0.0.11:6443.")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme == "https" else 80
    netloc = host if port is None or port == default else f"{host}:{port}"
    return f"{parts.scheme}://{netloc}{parts.path}"


def _proxy(url: str | None) -> str | None:
    """The proxy's URL if it can be used; raises BadInputError, which does not show it, as it may hold a password."""
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known:
        raise BadInputError(
            "The option proxy is not the URL of a proxy; write it like http://proxy.example.com:3128, and quote /, ?, # and @ in a "
            "user name or password as %2F, %3F, %23 and %40."
        )
    return url


def auth_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """A module's parameters that kubernetes.core uses for authentication, without unset ones."""
    try:
        from ansible_collections.kubernetes.core.plugins.module_utils.args_common import AUTH_ARG_SPEC
    except ImportError:
        return {}  # open_connection() says what is missing.
    return {name: params[name] for name in AUTH_ARG_SPEC if params.get(name) is not None}


def open_connection(
    options: Mapping[str, Any], server_name: str | None = None, *, concurrency: int = 128
) -> Connection:
    """Reads kubernetes.core's auth options, and the K8S_AUTH_* variables for options that are not given.

    Raises BadInputError with one sentence if a file is missing, can't be parsed or doesn't fit.
    """
    core = _core()
    try:
        auth = core._create_auth_spec(None, **options)
        configuration = core._create_configuration(auth)
        impersonation = _impersonation_headers(core._create_headers(None, **options))
    except Exception as error:  # kubernetes.config raises nearly anything on a malformed kubeconfig
        raise BadInputError(_explain_config_error(error, options)) from error
    if not configuration.host:
        raise BadInputError("The kubeconfig names no server; check its cluster entry or give the option host.")
    url = normalize_url(configuration.host)
    return Connection(
        url=url,
        transport=TransportSettings(
            ssl_context=_ssl_context(configuration) if url.startswith("https") else None,
            server_name=server_name or getattr(configuration, "tls_server_name", None),
            proxy=_proxy(configuration.proxy or None),
            no_proxy=getattr(configuration, "no_proxy", None),
            proxy_headers=configuration.proxy_headers or None,
            concurrency=concurrency,
        ),
        authorize=_Authorizer(configuration, impersonation),
    )


def authority(connection: Connection) -> str | None:
    """Identifies this cluster without asking it: a digest of its CA, or None if none was given."""
    context = connection.transport.ssl_context
    known = context.get_ca_certs(binary_form=True) if context and context.verify_mode != ssl.CERT_NONE else []
    if not 0 < len(known) <= _OWN_AUTHORITIES:
        return None
    return hashlib.sha256(b"".join(sorted(known))).hexdigest()[:16]


def auth_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(auth options by kubernetes.core's inner names, impersonation headers), environment variables included."""
    core = _core()
    return core._create_auth_spec(None, **options), core._create_headers(None, **options)


def _core() -> Any:
    try:
        from ansible_collections.kubernetes.core.plugins.module_utils.k8s import client as core
    except ImportError as error:
        raise BadInputError(
            "The collection kubernetes.core is needed; install it with: ansible-galaxy collection install kubernetes.core"
        ) from error
    if not hasattr(core, "kubernetes"):
        raise BadInputError(
            "The Python library kubernetes is needed where this task runs; install it there with: pip install kubernetes"
        )
    return core


class _Authorizer:
    """Makes the credential headers; asks the kubeconfig's own refresh hook again from time to time."""

    def __init__(self, configuration: Any, impersonation: list[tuple[str, str]]) -> None:
        self._configuration = configuration
        self._impersonation = impersonation
        self._headers: list[tuple[str, str]] = []
        self._made_at: float | None = None

    def __call__(self) -> list[tuple[str, str]]:
        now = time.monotonic()
        if self._made_at is None or now - self._made_at > _CREDENTIALS_KEPT:
            self._headers = list(self._impersonation)
            token = self._configuration.get_api_key_with_prefix("authorization")
            if token is None and "BearerToken" in self._configuration.api_key:
                token = self._configuration.get_api_key_with_prefix("BearerToken")
            if token is None and self._configuration.username:
                token = self._configuration.get_basic_auth_token()
            if token is not None:
                self._headers.append(("Authorization", token))
            self._made_at = now
        return self._headers


def _impersonation_headers(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    for name, value in found.items():
        for one in value if isinstance(value, list) else [value]:
            headers.append((name, str(one)))
    return headers


def _ssl_context(configuration: Any) -> ssl.SSLContext:
    """The TLS settings of a kubernetes Configuration as an SSLContext."""
    try:
        context = ssl.create_default_context(
            cafile=configuration.ssl_ca_cert or None, cadata=getattr(configuration, "ca_cert_data", None) or None
        )
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"The CA certificate {configuration.ssl_ca_cert} can't be read; check ca_cert ({_plain(error)})."
        ) from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif configuration.assert_hostname is False:
        context.check_hostname = False
    if configuration.cert_file:
        try:
            _load_client_certificate(
                context, configuration.cert_file, configuration.key_file or configuration.cert_file
            )
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"The client certificate {configuration.cert_file} or its key can't be used; "
                f"check client_cert and client_key ({_plain(error)})."
            ) from error
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Loads the client certificate so that it is sent without the CA's.

    If a file contains one certificate, OpenSSL adds its issuers from the CAs that verify servers. An API server then
    checks three signatures for each request instead of one, since it tries the sent certificates as paths to each of
    its CAs: a tenth of all its work for a small patch. Python can't turn that off, but OpenSSL leaves a chain alone,
    even if it is the same certificate twice, and a server doesn't check certificates that lead nowhere.
    """
    found = _CERTIFICATE.findall(Path(certificate).read_bytes())
    if len(found) != 1:
        context.load_cert_chain(certificate, key)
        return
    with tempfile.NamedTemporaryFile(suffix=".crt") as chain:
        chain.write(b"\n".join([*found, *found, b""]))
        chain.flush()
        context.load_cert_chain(chain.name, key)


def _plain(error: BaseException) -> str:
    """The reason of an OSError or SSLError without paths, addresses or library names."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "not a valid PEM file").lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "not a valid file"


def _explain_config_error(error: Exception, options: Mapping[str, Any]) -> str:
    """One sentence that says what is wrong with the credentials; never the content of a kubeconfig."""
    # Ansible hides the value of kubeconfig (it may hold the whole content), so the path can't be named.
    kubeconfig = options.get("kubeconfig")
    where = "The file given as kubeconfig" if isinstance(kubeconfig, str) else "The kubeconfig"
    if isinstance(error, PermissionError):
        return f"{where} can't be read: permission denied; run the task as a user who may, or give another file."
    if isinstance(error, FileNotFoundError):
        return f"{where} or a file that it names does not exist: {error.filename}."
    text = str(error)
    if type(error).__name__ == "ConfigException":
        if "Invalid kube-config file. No configuration found" in text:
            return (
                f"{where} does not exist or is empty; give the option kubeconfig, or host and credentials."
                if kubeconfig
                else "No credentials were found: neither in the options, nor K8S_AUTH_* variables, nor ~/.kube/config; "
                "give the option kubeconfig."
            )
        if "context" in text.lower() and options.get("context"):
            return f"{where} has no context named {options['context']}."
        if text.startswith("File does not exist: "):
            return f"{where} names a file that does not exist: {text.split(': ', 1)[1]}."
    return f"{where} is not a valid kubeconfig; compare it with the output of: kubectl config view --minify."
