# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The building blocks of all pages, which components.html.j2 and base.html.j2 show. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Heading:
    """``tone`` is good, bad, fair or open."""

    title: str
    badge: str
    tone: str
    sentence: str


@dataclass(frozen=True)
class ProofClaim:
    """``holds``: True is proven, False is contradicted, None is not proven."""

    holds: bool | None
    text: str


def unless_contradicted(heading: Heading, claims: Sequence[ProofClaim]) -> Heading:
    """The heading, unless it is good despite a contradicted claim: no page is ever green with a cross on it."""
    wrong = [claim.text for claim in claims if claim.holds is False]
    if heading.tone != "good" or not wrong:
        return heading
    return Heading(heading.title, "Something is wrong", "bad", f"Not true: {' '.join(wrong)}")


class Figure(NamedTuple):
    """A key number, shown large."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Table:
    """``columns`` are titles and styles: ``n`` for numbers, ``text`` for sentences, ``name`` for names that may wrap, or none."""

    caption: str
    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[Any]]
