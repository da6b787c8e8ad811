# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What antsibull-docs writes, in the order in which readers need it: the first page, and the role's page. Pure functions on texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

# Entry points as an upgrade meets them; antsibull-docs sorts them by name.
ENTRY_POINTS = ("main", "check", "snapshot", "upgrade_master", "converge", "migrate", "verify")
_ENTRY_POINT = re.compile(r"^(?=\.\. _ansible_collections\.[\w.]+_role__entrypoint-(\w+):$)", re.MULTILINE)
_ROW = re.compile(
    r"^(?=  \* - \.\. raw:: html\n\n"
    r" {8}<div class=\"ansible-option-cell\">\n"
    r" {8}<div class=\"ansibleOptionAnchor\" id=\"parameter-\w+--(\w+)\")",
    re.MULTILINE,
)
_TABLE = ".. tabularcolumns::"


def role_page(text: str, drivers: Iterable[str]) -> str:
    """The role's page with ``main`` first, and each driver's options below those that every driver has."""
    start, *parts = _ENTRY_POINT.split(text)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    if not sections:
        raise ValueError("antsibull-docs writes the role's page in another form; change docs/site/arrange.py.")
    # The last section ends with what follows all of them.
    last = parts[-2]
    sections[last], mark, rest = sections[last].partition("\n.. Extra links\n")
    names = [name for name in ENTRY_POINTS if name in sections] + [
        name for name in sections if name not in ENTRY_POINTS
    ]
    return start + "".join(_grouped(sections[name], list(drivers)) for name in names) + mark + rest


def _grouped(section: str, drivers: Sequence[str]) -> str:
    """One entry point, its table of options split by driver."""
    head, *rows = _ROW.split(section)
    if not rows or _TABLE not in head:
        return section
    text_before, table_head = head[: head.index(_TABLE)], head[head.index(_TABLE) :]
    groups: dict[str, list[str]] = {driver: [] for driver in ("", *drivers)}
    bodies = rows[1::2]
    # After the last row follow the other parts of the section, which begin at the margin.
    end = re.search(r"^(?=\S)", bodies[-1], re.MULTILINE)
    tail = bodies[-1][end.start() :] if end else ""
    bodies[-1] = bodies[-1][: end.start()] if end else bodies[-1]
    for name, body in zip(rows[::2], bodies, strict=True):
        groups[driver_of(name, drivers)].append(body)
    written = [text_before, table_head, *groups[""]]
    for driver in drivers:
        if groups[driver]:
            title = f"Options of the driver ``{driver}``"
            written += [f"{title}\n{'^' * len(title)}\n\n", table_head, *groups[driver]]
    return "".join(written) + tail


def driver_of(option: str, drivers: Iterable[str]) -> str:
    """Whose option it is; empty for those that every driver has."""
    return next((driver for driver in drivers if option.startswith(f"rolling_upgrade_{driver}_")), "")


def toctree(caption: str, pages: Iterable[str]) -> str:
    """A group of the sidebar. A page is its name, or ``text <name>`` where its own title is too long for the sidebar."""
    return f"\n.. toctree::\n   :caption: {caption}\n   :maxdepth: 1\n   :hidden:\n\n" + "".join(f"   {page}\n" for page in pages)  # fmt: skip


def first_page(text: str, sections: Sequence[Mapping[str, Sequence[str]]], reference: Sequence[str]) -> str:
    """Our own first page, with the guides grouped as in extra-docs.yml; the last group has the reference, too."""
    *groups, last = [(str(part["title"]), [f"docsite/{name}" for name in part["toctree"]]) for part in sections]
    written = "".join(toctree(title, pages) for title, pages in groups)
    return text + written + toctree(last[0], [*reference, *last[1]])


def plugin_page(text: str, titles: Iterable[str]) -> str:
    """The index that antsibull-docs writes, as a page of its own: without the guides, which the first page has, and with short
    names in the sidebar."""
    for title in titles:
        text, found = re.subn(rf"^{re.escape(title)}\n-+\n.*?(?=^\.\. _|^\S.*\n-+\n)", "", text, count=1, flags=re.DOTALL | re.MULTILINE)  # fmt: skip
        if not found:
            raise ValueError(f"antsibull-docs writes its index without {title}; change docs/site/arrange.py.")
    text = re.sub(r"^\.\. toctree::\n(?: +:\w+:.*\n)*\n(?: +docsite/.*\n)*(?! +\w)\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"^( +)((\w+)_(?:module|filter|lookup|test))$", r"\1\3 <\2>", text, flags=re.MULTILINE)
    return re.sub(r"^Kube_Storage\.Upgrade\n=+$", "All modules and plugins\n=======================", text, flags=re.MULTILINE)  # fmt: skip


# What the theme writes, and what screen readers need instead.
_ACCESSIBLE = (
    ('<p class="caption" role="heading">', '<p class="caption" role="heading" aria-level="2">'),
    ('class="wy-nav-side">', 'class="wy-nav-side" aria-label="All pages">'),
    (' aria-role="button"', ""),
)
_TOP_BAR = re.compile(r'(<a class="DocSite-nav".*?</a>)', re.DOTALL)


def accessible(page: str) -> str:
    """A page of the site, with what the theme forgets: levels of headings, and names of landmarks."""
    for written, needed in _ACCESSIBLE:
        page = page.replace(written, needed)
    return _TOP_BAR.sub(r"<header>\1</header>", page)
