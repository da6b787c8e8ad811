# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of a server's refusal that may be shown: who refuses, and which field, but no word of the object. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.redaction import printable
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.keys import is_custom
from ansible_collections.kube_storage.upgrade.plugins.module_utils._upgrade_check.finding import listed

OPTION = "show_server_messages"
# At the beginning of the message; anything later may be a quotation.
_FORBIDDEN = r'(?:[\w.:/-]+ (?:"(?:[^"\\]|\\.)*" )?is forbidden: )?'
_WEBHOOK = re.compile(_FORBIDDEN + r'admission webhook "([^"]+)" denied')
_POLICY = re.compile(
    _FORBIDDEN + r"""(?:\w+AdmissionPolicy|policy) ['"]([^'"]+)['"](?: with binding '([^']+)')? denied"""
)
_CAUSES = {
    "FieldValueNotFound": "names something that doesn't exist",
    "FieldValueRequired": "is required",
    "FieldValueDuplicate": "has a duplicate value",
    "FieldValueInvalid": "has an invalid value",
    "FieldValueTypeInvalid": "has a value of the wrong type",
    "FieldValueNotSupported": "has an unsupported value",
    "FieldValueForbidden": "is not allowed to have that value",
    "FieldValueTooLong": "is too long",
    "FieldValueTooMany": "has too many items",
    "FieldValueTooFew": "has too few items",
    "FieldValueTooShort": "is too short",
}
_INDEX_OR_NAME = re.compile(r"[A-Za-z]\w*(?:\[\d+\])*")


def who_refuses(message: str) -> str:
    """The webhook or policy that a message names, else the API server."""
    webhook = _WEBHOOK.match(message)
    if webhook:
        return f"The admission webhook {printable(webhook[1])}"
    policy = _POLICY.match(message)
    if policy is None:
        return "The API server"
    binding = f" (binding {printable(policy[2])})" if policy[2] else ""
    return f"The admission policy {printable(policy[1])}{binding}"


def what_is_said(resource: str, message: str, details: Mapping[str, Any], *, shown: bool) -> str:
    """The rest of a sentence, from its colon on; only the wrong fields if the message must not be shown."""
    if shown:
        return f": {printable(message).rstrip('.')}"
    causes = [cause for cause in details.get("causes") or () if isinstance(cause, Mapping)]
    fields = [
        f"{field_shown(resource, str(cause.get('field') or ''))} {_CAUSES[str(cause.get('reason'))]}"
        for cause in causes
        if str(cause.get("reason")) in _CAUSES and cause.get("field")
    ]
    said = f": {listed(list(dict.fromkeys(fields)))}" if fields else ""
    return f"{said} (its message is left out, as it may quote the object; {OPTION}: true shows it)"


def field_shown(resource: str, path: str) -> str:
    """A field's path up to the first part that may be the key of a map, which is data.

    In paths of custom resources such keys look like names of fields, so only the first part is shown.
    """
    known: list[str] = []
    for part in path.split("."):
        name = _INDEX_OR_NAME.match(part)
        if name is None:
            break
        known.append(name[0])
        if name[0] != part or is_custom(resource):
            break
    return ".".join(known) or "a field"
