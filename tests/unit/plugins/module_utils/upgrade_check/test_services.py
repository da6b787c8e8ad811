# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a manifest may hold where a webhook's address belongs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import BadInputError
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check import services
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.crds import definition_of
from ansible_collections.kube_storage.upgrade.tests.unit.plugins.module_utils.upgrade_check.builders import crd


class Server:
    """Every service is there and ready."""

    async def get(self, _path: str) -> dict[str, Any]:
        return {"items": [{"endpoints": [{"addresses": ["10.0.0.1"]}]}]}


def state(client: dict[str, Any]) -> services.ServiceState:
    return asyncio.run(services.state_of_conversion(Server(), client))  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["https://a:port/convert", "https://[::1/convert", "/convert", ""])
def test_a_url_that_is_none(url: str) -> None:
    assert state({"url": url}).problem == "its URL is not valid"


def test_a_host_with_an_empty_label_and_a_named_port() -> None:
    assert "nothing answers at https://a..b" in str(state({"url": "https://a..b/convert"}).problem)
    named = {"service": {"namespace": "a", "name": "b", "port": "https"}}
    assert state(named).problem == "the port of its service a/b is not a number"


@pytest.mark.parametrize("config", ["https://a", {"service": "b"}, ["a"]])
def test_a_client_config_that_is_none(config: Any) -> None:
    document = crd("v1", "v1")
    document["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {"clientConfig": config}}
    with pytest.raises(BadInputError, match="has no valid spec"):
        definition_of(document)
