# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The encryption providers whose keys are in the EncryptionConfiguration. Pure.

From k8s.io/apiserver, pkg/storage/value/encrypt and pkg/apis/apiserver/validation. KMS isn't among them: its keys are
elsewhere, and each place that knows it does so by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class LocalProvider(NamedTuple):
    """``key_sizes``: bytes of its keys. A ciphertext has at least ``shortest`` bytes, in whole blocks of ``block``."""

    key_sizes: tuple[int, ...]
    shortest: int
    block: int = 1

    def may_write(self, length: int) -> bool:
        """Whether a ciphertext of that many bytes can be its own."""
        return length >= self.shortest and length % self.block == 0


# By the name that both the configuration and the stored prefix (k8s:enc:<name>:v1:) have.
LOCAL_PROVIDERS: Mapping[str, LocalProvider] = MappingProxyType(
    {
        # The initialization vector and at least one block.
        "aescbc": LocalProvider((16, 24, 32), shortest=16 + 16, block=16),
        # Nonce and tag.
        "aesgcm": LocalProvider((16, 24, 32), shortest=12 + 16),
        "secretbox": LocalProvider((32,), shortest=24 + 16),
    }
)
