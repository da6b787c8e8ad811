# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sphinx's settings for the site; its source is what antsibull-docs makes of the collection (see build.py)."""

import re
import zlib
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build" / "docs"
ELSEWHERE = {
    "action_plugins": "plugins/action.html",
    "ansible_configuration_settings": "reference_appendices/config.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}
OTHER_COLLECTIONS = re.compile(r"<(ansible_collections\.(?!kube_storage\.)(\w+)\.(\w+)\.(\w+))>")


def inventory() -> str:
    """Writes what intersphinx would fetch: where the pages of Ansible's own documentation are that the reference points to."""
    pages = dict(ELSEWHERE)
    for text in (BUILD / "rst").rglob("*.rst"):
        for label, *path in OTHER_COLLECTIONS.findall(text.read_text(encoding="utf-8")):
            pages[label] = f"collections/{'/'.join(path)}.html"
    head = "# Sphinx inventory version 2\n# Project: ansible\n# Version: latest\n"
    head += "# The remainder of this file is compressed using zlib.\n"
    lines = "".join(f"{label} std:label -1 {page}# {label}\n" for label, page in sorted(pages.items()))
    path = BUILD / "ansible.inv"
    path.write_bytes(head.encode() + zlib.compress(lines.encode()))
    return str(path)


project = "kube_storage.upgrade"
copyright = "kube_storage.upgrade contributors"
html_title = "kube_storage.upgrade"
html_short_title = "kube_storage.upgrade"
extensions = ["sphinx.ext.intersphinx", "sphinx_antsibull_ext"]
intersphinx_mapping = {"ansible": ("https://docs.ansible.com/ansible/latest/", inventory())}
pygments_style = "ansible"
highlight_language = "YAML+Jinja"
html_theme = "sphinx_ansible_theme"
html_static_path = ["static"]
html_css_files = ["wrap.css"]
html_show_sphinx = False
html_copy_source = False
html_use_smartypants = False
html_theme_options = {"documentation_home_url": "index.html", "topbar_links": {}, "vcs_pageview_mode": "edit"}
html_context = {"display_github": False, "show_sphinx": False}
