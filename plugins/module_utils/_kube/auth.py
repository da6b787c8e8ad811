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
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.addresses import same_url
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.library import missing_library
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.client import TransportSettings
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.proxy import parse_proxy
from ansible_collections.kube_storage.upgrade.plugins.module_utils._http.tls import (
    client_certificate_problem,
    client_context,
    load_client_certificate,
    load_client_pem,
    reason_of,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.credentials import (
    FileToken,
    PluginToken,
    Token,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._kube.kubeconfig import (
    COMPARE,
    KubeContext,
    read_context,
)

_CREDENTIALS_KEPT = 30.0
_OWN_AUTHORITIES = 10  # more than that is the system's whole store
_DEFAULT_KUBECONFIG = "~/.kube/config"
_POD_TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"


@dataclass(frozen=True)
class Connection:
    """One cluster as a user reaches it: the URL of the kubeconfig, how to connect, and who they are.

    ``authorize`` returns the headers of a request. ``renewal``: credentials that end; None if they don't.
    ``context``: the kubeconfig's context; None if it wasn't used. ``why_refused``: what is known to be wrong with the credentials.
    """

    url: str
    transport: TransportSettings
    authorize: Callable[[], list[tuple[str, str]]] = field(repr=False)
    renewal: Token | None = field(default=None, repr=False)
    context: str | None = None
    why_refused: Callable[[], str | None] = field(default=lambda: None, repr=False)


def normalize_url(url: str) -> str:
    """``https://10.0.0.11:6443`` from a user's input; raises BadInputError if that isn't a server URL."""
    text = url.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        found = same_url(text)
    except ValueError:
        parts, found = urlsplit(""), ""
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        shown = text if "@" not in text else "(hidden, as it holds credentials)"
        raise BadInputError(f"'{shown}' is not the URL of an API server; write it like https://10.0.0.11:6443.")
    return found


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

    Runs the kubeconfig's credential plugin, if it has one. Raises BadInputError with one sentence if a file is missing, can't be
    parsed or doesn't fit, or if the plugin gives no credentials.
    """
    core = _core()
    auth = core._create_auth_spec(None, **options)
    chosen = _context_of(auth)
    try:
        configuration = core._create_configuration(_for_core(auth, chosen))
    except Exception as error:  # kubernetes.config raises nearly anything on a malformed kubeconfig
        raise BadInputError(_why_unusable(core, auth, chosen)) from error
    if not configuration.host:
        raise BadInputError("The kubeconfig names no server; check its cluster entry or give the option host.")
    url = normalize_url(configuration.host)
    context = _ssl_context(configuration) if url.startswith("https") else None
    # A context's user may have a token beside the certificate of the options; a pod's account belongs to that pod's cluster only.
    given = _has_credentials(auth) or (chosen is None and _has_certificate(auth))
    token = None if given else _token_of(chosen, context)
    header: Callable[[], str | None] = _Header(configuration) if token is None else lambda: token.header
    impersonation = _impersonation_headers(core._create_headers(None, **options)) or impersonation_of(chosen)

    def authorize() -> list[tuple[str, str]]:
        found = header()
        return impersonation if found is None else [*impersonation, ("Authorization", found)]

    def why_refused() -> str | None:
        if token is not None and token.problem:
            return token.problem
        if configuration.cert_file:
            return client_certificate_problem(configuration.cert_file, _certificate_name(configuration, chosen))
        if header() is None and chosen is not None and not isinstance(token, PluginToken):
            return _provider_problem(chosen) or f"The {chosen.whose} has no credentials."
        return None

    return Connection(
        url=url,
        transport=TransportSettings(
            ssl_context=context,
            server_name=server_name or getattr(configuration, "tls_server_name", None),
            proxy=parse_proxy(configuration.proxy, "proxy", configuration.proxy_headers)
            if configuration.proxy
            else None,
            no_proxy=getattr(configuration, "no_proxy", None),
            concurrency=concurrency,
            identity=(lambda: token.version) if isinstance(token, PluginToken) else None,
        ),
        authorize=authorize,
        renewal=token,
        context=chosen.name if chosen is not None else None,
        why_refused=why_refused,
    )


def _has_credentials(auth: Mapping[str, Any]) -> bool:
    """Whether the options hold a token, or a user with a password."""
    return bool(auth.get("api_key") or (auth.get("username") and auth.get("password")))


def _has_certificate(auth: Mapping[str, Any]) -> bool:
    return bool(auth.get("cert_file") and auth.get("key_file"))


def _context_of(auth: Mapping[str, Any]) -> KubeContext | None:
    """The context of the kubeconfig that these options use; None where they need none, or in a pod without one."""
    has_credentials = _has_credentials(auth) or _has_certificate(auth)
    if auth.get("host") and has_credentials:
        return None
    kubeconfig = _kubeconfig_of(auth)
    if kubeconfig is None:
        if in_pod() and not auth.get("context"):
            return None
        raise BadInputError(
            "No credentials were found: neither in the options, nor K8S_AUTH_* variables, nor ~/.kube/config; "
            "give the option kubeconfig."
        )
    return read_context(kubeconfig, auth.get("context"), user_needed=not has_credentials)


def _kubeconfig_of(auth: Mapping[str, Any]) -> Any:
    """In kubectl's order; a pod's own account comes last, so that a kubeconfig that somebody put there counts."""
    default = os.path.expanduser(_DEFAULT_KUBECONFIG)
    return auth.get("kubeconfig") or os.environ.get("KUBECONFIG") or (default if os.path.exists(default) else None)


def in_pod() -> bool:
    """Whether this runs in a pod that has a service account."""
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and os.path.exists(_POD_TOKEN)


def _for_core(auth: Mapping[str, Any], chosen: KubeContext | None) -> dict[str, Any]:
    """The options as kubernetes.core is to read them."""
    if chosen is None:
        return dict(auth)
    if chosen.auth_provider is not None:
        return {**auth, "kubeconfig": _kubeconfig_of(auth), "context": chosen.name}
    return _alone(auth, chosen, "auth-provider")


def _alone(auth: Mapping[str, Any], chosen: KubeContext, *without: str) -> dict[str, Any]:
    """The options with nothing of the kubeconfig but that context, without some fields of its user.

    Also without what we read ourselves, as kubernetes.core's library swallows what is wrong with a plugin, and reads a token file once.
    """
    ours = ("exec", "tokenFile", *(("token",) if chosen.user.get("tokenFile") else ()), *without)
    return {**auth, "kubeconfig": chosen.as_kubeconfig(without=ours), "context": None}


def _why_unusable(core: Any, auth: Mapping[str, Any], chosen: KubeContext | None) -> str:
    """Why kubernetes.core does not take a kubeconfig. Its user's auth provider is the reason only if all the rest is taken."""
    if chosen is not None and chosen.auth_provider is not None:
        if not _is_taken(core, _alone(auth, chosen)) and _is_taken(core, _alone(auth, chosen, "auth-provider")):
            return str(_provider_problem(chosen))
    where = chosen.where if chosen is not None else "the kubeconfig"
    return f"{where[:1].upper()}{where[1:]} is not a valid kubeconfig; {COMPARE}."


def _is_taken(core: Any, auth: Mapping[str, Any]) -> bool:
    try:
        core._create_configuration(auth)
    except Exception:
        return False
    return True


def _token_of(chosen: KubeContext | None, context: ssl.SSLContext | None) -> Token | None:
    """Credentials that change: a pod's account, or the token file or plugin of the kubeconfig's user, in kubectl's order."""
    if chosen is None:
        return FileToken(_POD_TOKEN) if in_pod() else None
    user = chosen.user
    if chosen.auth_provider is not None:
        return None
    if user.get("tokenFile"):
        try:
            return FileToken(str(user["tokenFile"]), user.get("token"))
        except OSError as error:
            raise BadInputError(
                f"The token file {user['tokenFile']} of {chosen.whose} can't be read ({error.strerror}); run the task as a user who can."
            ) from error
    if not user.get("exec") or user.get("token"):
        return None

    def show(certificate: str, key: str) -> None:
        try:
            if context is not None:
                load_client_pem(context, certificate, key)
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"The client certificate from the credential plugin of {chosen.whose}, or its key, can't be used ({reason_of(error)})."
            ) from error

    return PluginToken(chosen, show)


def _provider_problem(chosen: KubeContext | None) -> str | None:
    """What to do if the user's auth provider (what kubectl had before credential plugins) gave no token; None without one."""
    if chosen is None or chosen.auth_provider is None:
        return None
    name = chosen.auth_provider.get("name")
    what = f"The auth provider '{name}' of {chosen.whose} gives no token"
    if name == "oidc":
        return f"{what}; its id-token has expired or is not valid, and could not be renewed. Log in again."
    return f"{what}; kubectl no longer supports it either. Use the provider's credential plugin instead (exec in the kubeconfig)."


def _certificate_name(configuration: Any, chosen: KubeContext | None) -> str:
    """The client certificate in a sentence: its path, unless it was in the kubeconfig and is in a temporary file now."""
    if chosen is not None and chosen.user.get("client-certificate-data"):
        return f"The client certificate of {chosen.whose}"
    return f"The client certificate {configuration.cert_file}"


def describe(options: Mapping[str, Any]) -> dict[str, str | None]:
    """The context and the server that these options name, without asking anything; null for what they don't."""
    try:
        auth = _core()._create_auth_spec(None, **options)
        chosen = _context_of(auth)
        if chosen is None and not auth.get("host"):
            host = os.environ["KUBERNETES_SERVICE_HOST"]
            port = os.environ.get("KUBERNETES_SERVICE_PORT") or "443"
            return {"context": None, "server": normalize_url(f"https://{f'[{host}]' if ':' in host else host}:{port}")}
        server = str(auth.get("host") or (chosen.cluster["server"] if chosen is not None else ""))
        return {"context": chosen.name if chosen is not None else None, "server": normalize_url(server)}
    except BadInputError:
        return {"context": None, "server": None}


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
        raise missing_library()
    return core


class _Header:
    """The Authorization header of credentials that kubernetes.core reads; asks its refresh hook again from time to time."""

    def __init__(self, configuration: Any) -> None:
        self._configuration = configuration
        self._header: str | None = None
        self._made_at: float | None = None

    def __call__(self) -> str | None:
        now = time.monotonic()
        if self._made_at is None or now - self._made_at > _CREDENTIALS_KEPT:
            self._header = self._configuration.get_api_key_with_prefix("authorization")
            if self._header is None and "BearerToken" in self._configuration.api_key:
                self._header = self._configuration.get_api_key_with_prefix("BearerToken")
            if self._header is None and self._configuration.username:
                self._header = self._configuration.get_basic_auth_token()
            self._made_at = now
        return self._header


def _impersonation_headers(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    for name, value in found.items():
        for item in value if isinstance(value, list) else [value]:
            headers.append((name, str(item)))
    return headers


def impersonation_of(chosen: KubeContext | None) -> list[tuple[str, str]]:
    """The headers for as, as-uid, as-groups and as-user-extra of the kubeconfig's user, as client-go sends them. Pure."""
    if chosen is None or not chosen.user.get("as"):
        return []
    user = chosen.user
    headers = [("Impersonate-User", str(user["as"]))]
    headers += [("Impersonate-Uid", str(user["as-uid"]))] if user.get("as-uid") else []
    headers += [("Impersonate-Group", str(group)) for group in user.get("as-groups") or ()]
    for name, values in (user.get("as-user-extra") or {}).items():
        # Only what a header's name may hold (client-go, transport/round_trippers.go).
        escaped = quote(str(name).lower(), safe="!#$&'*+^`|")
        headers += [(f"Impersonate-Extra-{escaped}", str(value)) for value in values or ()]
    return headers


def _ssl_context(configuration: Any) -> ssl.SSLContext:
    """The TLS settings of a kubernetes Configuration as an SSLContext."""
    try:
        context = client_context(
            configuration.ssl_ca_cert or None, getattr(configuration, "ca_cert_data", None) or None
        )
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"The CA certificate {configuration.ssl_ca_cert} can't be read; check ca_cert ({reason_of(error)})."
        ) from error
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif configuration.assert_hostname is False:
        context.check_hostname = False
    if configuration.cert_file:
        try:
            load_client_certificate(context, configuration.cert_file, configuration.key_file)
        except (OSError, ValueError) as error:
            raise BadInputError(
                f"The client certificate {configuration.cert_file} or its key can't be used; "
                f"check client_cert and client_key ({reason_of(error)})."
            ) from error
    return context
