# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The site's own parts: the order of the role's page, the groups of the sidebar, and a page for each playbook.

tests/integration/test_documentation.py builds the whole.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SPECS = yaml.safe_load((ROOT / "roles/rolling_upgrade/meta/argument_specs.yml").read_text(encoding="utf-8"))
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / "site" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


arrange, playbook_pages = load("arrange"), load("playbook_pages")


def section(entry_point: str, *options: str) -> str:
    rows = "".join(
        "  * - .. raw:: html\n\n"
        '        <div class="ansible-option-cell">\n'
        f'        <div class="ansibleOptionAnchor" id="parameter-{entry_point}--{option}"></div>\n\n'
        for option in options
    )
    return (
        f".. _ansible_collections.a.b.c_role__entrypoint-{entry_point}:\n\nParameters\n^^^^^^^^^^\n\n"
        f".. tabularcolumns:: x\n\n.. list-table::\n\n  * - Parameter\n\n{rows}\n.. Attributes\n\n"
    )


def test_main_is_first_and_the_options_of_drivers_are_below_the_others() -> None:
    page = "Title\n\n" + section("check", "rolling_upgrade_version")
    page += section("main", "rolling_upgrade_kubeadm_drain", "rolling_upgrade_version", "rolling_upgrade_tasks_file")
    page += ".. Extra links\n\nend\n"
    arranged = arrange.role_page(page, ["kubeadm", "tasks"])
    order = [match[1] or match[2] for match in re.finditer(r'entrypoint-(\w+):|id="parameter-\w+--(\w+)"', arranged)]
    assert order == [
        "main",
        "rolling_upgrade_version",
        "rolling_upgrade_kubeadm_drain",
        "rolling_upgrade_tasks_file",
        "check",
        "rolling_upgrade_version",
    ]
    assert arranged.count("Options of the driver ``kubeadm``\n") == 1
    assert arranged.count(".. list-table::") == 4
    assert arranged.endswith("\n.. Extra links\n\nend\n")


def test_a_page_in_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="change docs/site/arrange.py"):
        arrange.role_page("Title\n", [])
    with pytest.raises(ValueError, match="without Guides"):
        arrange.plugin_page("Title\n", ["Guides"])


def test_the_sidebar_has_each_guide_once_and_the_reference_last() -> None:
    extra = yaml.safe_load((ROOT / "docs/docsite/extra-docs.yml").read_text(encoding="utf-8"))
    page = arrange.first_page("", extra["sections"], ["rolling_upgrade_role"])
    guides = re.findall(r"^   docsite/(\w+)$", page, re.MULTILINE)
    assert sorted(guides) == sorted(path.stem for path in (ROOT / "docs/docsite/rst").glob("*.rst"))
    assert page.index(":caption: Reference") < page.index("rolling_upgrade_role") < page.index("docsite/permissions")


def test_the_plugins_have_short_names_in_the_sidebar_and_no_guides() -> None:
    index = "Kube_Storage.Upgrade\n====================\n\n.. toctree::\n    :maxdepth: 1\n\n    docsite/installation\n    docsite/report\n\n"
    index += (
        "Modules\n~~~~~~~\n\n.. toctree::\n    :maxdepth: 1\n    :hidden:\n\n    say_module\n    upgrade_run_lookup\n"
    )
    page = arrange.plugin_page(index, [])
    assert "docsite/" not in page and page.count(".. toctree::") == 1
    assert "\n    say <say_module>\n    upgrade_run <upgrade_run_lookup>\n" in page


def test_what_the_theme_forgets_for_screen_readers_is_added() -> None:
    page = '<a class="DocSite-nav" href="x">\n<img>\n</a><nav data-toggle="wy-nav-shift" class="wy-nav-side"><p class="caption" role="heading">'
    assert arrange.accessible(page) == (
        '<header><a class="DocSite-nav" href="x">\n<img>\n</a></header><nav data-toggle="wy-nav-shift" class="wy-nav-side" '
        'aria-label="All pages"><p class="caption" role="heading" aria-level="2">'
    )


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_each_playbook_has_a_page_with_all_its_variables(path: Path) -> None:
    page = playbook_pages.page(path, SPECS["argument_specs"])
    for entry_point in playbook_pages.entry_points_of(yaml.safe_load(path.read_text(encoding="utf-8"))):
        for name in SPECS["argument_specs"][entry_point]["options"]:
            assert f":{name}`" in page
    assert "rolling_upgrade_hosts" in page


def test_a_variable_that_nothing_describes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "odd.yml"
    path.write_text('- hosts: "{{ rolling_upgrade_unheard_of | default(1) }}"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="odd.yml takes variables that nothing describes: rolling_upgrade_unheard_of"):
        playbook_pages.variables_of(path, SPECS["argument_specs"])
