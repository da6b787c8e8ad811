# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proxy on the way to servers, as users write it. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError

_HTTP = ("http", "https")
# As in Go's net/http, both leave host names to the proxy.
_SOCKS = ("socks5", "socks5h")


@dataclass(frozen=True)
class Proxy:
    """``url`` is without credentials, so that it can be shown. ``headers`` go to an HTTP proxy."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_socks(self) -> bool:
        return self.url.startswith("socks")


def parse_proxy(text: str, option: str, headers: Mapping[str, str] | None = None) -> Proxy:
    """From an option or a variable; without a scheme it is an HTTP proxy. ``headers`` win over credentials in the URL.

    Raises BadInputError, which doesn't show the text, as it may hold a password.
    """
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        known = parts.scheme in (*_HTTP, *_SOCKS) and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or parts.path.strip("/") or parts.query or parts.fragment:
        raise BadInputError(
            f"The option {option} is not the URL of a proxy; write it like http://proxy.example.com:3128 or socks5://proxy.example.com:1080, "
            "and quote /, ?, # and @ in a user name or password as %2F, %3F, %23 and %40."
        )
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password or "") if user else None
    own: dict[str, str] = {}
    if user:
        own["Proxy-Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    given = {name.title(): value for name, value in (headers or {}).items()}
    scheme = "socks5h" if parts.scheme in _SOCKS else parts.scheme
    return Proxy(f"{scheme}://{parts.netloc.rpartition('@')[2]}", user, password, {**own, **given})
