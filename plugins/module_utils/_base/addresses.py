# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses as texts that can be compared. Pure."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def same_address(host: str) -> str:
    """One spelling for each IP address, with or without brackets (IPv6 has many, RFC 5952); names in lower case."""
    text = host.strip().lower()
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        return str(ip_address(bare))
    except ValueError:
        return text


def is_loopback(host: str) -> bool:
    """Whether its text says that it is the host itself: then whoever connects to it reaches another one."""
    return host.startswith(("localhost", "127.", "::1"))


def same_url(url: str) -> str:
    """One spelling for each URL of a server. Raises ValueError if it has no host, or a port that is none."""
    parts = urlsplit(url.strip().rstrip("/"))
    if not parts.hostname:
        raise ValueError(f"{url} has no host")
    name = same_address(parts.hostname)
    host = f"[{name}]" if ":" in name else name
    netloc = host if parts.port in (None, 443 if parts.scheme == "https" else 80) else f"{host}:{parts.port}"
    return f"{parts.scheme}://{netloc}{parts.path}"
