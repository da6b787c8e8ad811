# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything in the documentation can be copied: YAML is parsed and checked, commands are run or compared with their help."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.control_plane.cluster import Cluster, ClusterError

from .support import browser
from .support.modules import ROOT, environment
from .support.objects import apply, install_widgets, widgets_crd
from .support.printed import Block, blocks
from .support.stand_ins import kubespray_collection

PROGRAMS = Path(sys.executable).parent
COLLECTION = "kube_storage.upgrade."
GUIDES = sorted((ROOT / "docs" / "docsite" / "rst").glob("*.rst"))
TEXTS = [
    *GUIDES,
    ROOT / "docs" / "site" / "index.rst",
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "roles" / "rolling_upgrade" / "README.md",
]


READING = {"kube_storage.upgrade.check", "kube_storage.upgrade.audit"}
ALL = [block for text in TEXTS for block in blocks(text)]


@cache
def manuals(kind: str) -> dict[str, Any]:
    listed = json.loads(run("ansible-doc", "-t", kind, "--list", "--json", "kube_storage.upgrade").stdout)
    found: dict[str, Any] = json.loads(run("ansible-doc", "-t", kind, "--json", *listed).stdout)
    return found


def run(*command: str, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = {
        **environment(),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "COLUMNS": "200",
        **variables,
    }
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done


# YAML


def tasks_in(document: Any) -> Iterator[Mapping[str, Any]]:
    for item in document if isinstance(document, list) else []:
        if isinstance(item, Mapping):
            nested = [item.get(key) for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue")]
            if any(nested):
                for part in nested:
                    yield from tasks_in(part)
            if "hosts" not in item:
                yield item


def options_of(name: str) -> set[str]:
    """Names of a module's options, with their aliases."""
    found = manuals("module")[name]["doc"]["options"]
    return {word for option, spec in found.items() for word in (option, *spec.get("aliases", []))}


def assert_options_exist(document: Any) -> None:
    """Modules get no option that they don't have, and the role no variable."""
    entry_points = manuals("role")[COLLECTION + "rolling_upgrade"]["entry_points"]
    known = {variable for entry in entry_points.values() for variable in entry["options"]}
    for task in tasks_in(document):
        for key, value in task.items():
            if key.startswith(COLLECTION):
                assert key in manuals("module"), f"there is no module {key}"
                assert set(value or {}) <= options_of(key), f"{key}: {set(value) - options_of(key)}"
        if any(key.endswith("_role") for key in task):
            wrong = {name for name in task.get("vars") or {} if name.startswith("rolling_upgrade_")} - known
            assert not wrong, wrong


def test_yaml_is_what_ansible_accepts(tmp_path: Path) -> None:
    playbooks, inventories = [], []
    for block in (block for block in ALL if block.language == "yaml"):
        document = yaml.safe_load(block.content)
        path = tmp_path / f"{str(block).replace('/', '_')}.yml"
        if isinstance(document, list):
            assert_options_exist(document)
            if not any("hosts" in item or any("import_playbook" in key for key in item) for item in document):
                content = "- hosts: localhost\n  tasks:\n" + textwrap.indent(block.content, "    ")
            else:
                content = block.content
            path.write_text(content, encoding="utf-8")
            playbooks.append(str(path))
        elif "kube_control_plane" in document:
            path.write_text(block.content, encoding="utf-8")
            inventories.append(str(path))
        elif "dependencies" in document:
            path.write_text(block.content, encoding="utf-8")
            run("ansible-builder", "create", "--file", str(path), "--context", str(tmp_path / "context"))
        elif "driver" in document:
            assert block.text.stem == "molecule", "test_molecule.py runs it"
        elif "collections" in document:
            assert_requirements(document)
        elif document.get("kind") == "List":
            assert block.text.stem == "permissions", "test_least_privilege.py applies it"
        else:
            assert not [name for name in document if not name.startswith(("rolling_upgrade_", "managed_"))], block
    assert len(playbooks) > 10 and inventories
    collections = f"{ROOT / '.ansible' / 'collections'}:{kubespray_collection(tmp_path / 'collections')}"
    run("ansible-playbook", "--syntax-check", *playbooks, ANSIBLE_COLLECTIONS_PATH=collections)
    for inventory in inventories:
        shown = json.loads(run("ansible-inventory", "-i", inventory, "--list").stdout)
        assert shown["kube_control_plane"]["hosts"]


def assert_requirements(document: Mapping[str, Any]) -> None:
    """A requirements file names this collection, by name or by its repository, with keys that ansible-galaxy knows."""
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))
    for collection in document["collections"]:
        assert set(collection) <= {"name", "version", "type", "source"}
        assert collection["name"] in ("kube_storage.upgrade", f"{galaxy['repository']}.git")


@pytest.mark.parametrize("kind", ["module", "filter"])
def test_examples_can_be_copied(kind: str, tmp_path: Path) -> None:
    found = manuals(kind)
    for name, manual in found.items():
        document = yaml.safe_load(manual["examples"])
        assert document, f"{name} has no examples"
        assert_options_exist(document)
        content = "- hosts: localhost\n  tasks:\n" + textwrap.indent(manual["examples"], "    ")
        (tmp_path / f"{name}.yml").write_text(content, encoding="utf-8")
        if kind == "module":
            assert any(name in task for task in tasks_in(document)), f"no example of {name} uses it"
    run("ansible-playbook", "--syntax-check", *map(str, tmp_path.glob("*.yml")))


def test_every_default_of_the_role_is_documented() -> None:
    defaults = yaml.safe_load((ROOT / "roles/rolling_upgrade/defaults/main.yml").read_text(encoding="utf-8"))
    entry_points = manuals("role")[COLLECTION + "rolling_upgrade"]["entry_points"]
    for name, default in defaults.items():
        specs = [entry["options"][name] for entry in entry_points.values() if name in entry["options"]]
        assert specs, f"{name} is in no argument spec"
        for spec in specs:
            assert spec.get("description"), name
            if "{{" not in str(default):
                assert spec.get("default") == default, f"{name}: {spec.get('default')} is not {default}"
    files = {path.stem for path in (ROOT / "roles/rolling_upgrade/tasks").glob("*.yml")}
    assert set(entry_points) <= files


def test_every_module_is_in_the_action_group_and_the_readme() -> None:
    group = yaml.safe_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]["k8s"]
    names = {name.removeprefix(COLLECTION) for name in manuals("module")}
    elsewhere = {
        "encryption_config_file",
        "say",
        "upgrade_fleet",
        "upgrade_play",
        "upgrade_report",
        "upgrade_step",
    }  # on masters, and on the controller
    assert set(group) == names - elsewhere, "all that take options for a cluster, and no other"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in names if f"`{name}`" not in readme]


# Commands


def commands(block: Block) -> Iterator[str]:
    lines = [line.removeprefix("$ ").split("  #")[0].strip() for line in block.content.splitlines()]
    yield from filter(None, lines)


def assert_in_help(words: list[str]) -> None:
    """The program, its subcommands, and every long option that is given."""
    first = next((number for number, word in enumerate(words) if number and word.startswith("-")), len(words))
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    plain = [word for word in words[1:first] if re.fullmatch(r"[a-z-]+", word)]
    if words[0] == "molecule" and options[0] == "--base-config":
        plain = ["test"]
    help_text = run(words[0], *plain[:2] if words[0] == "ansible-galaxy" else plain[:1], "--help").stdout
    if words[0] == "molecule":
        help_text += run("molecule", "--help").stdout
    assert not [option for option in options if option not in help_text], words


def check_command(command: str, cluster: Cluster, folder: Path) -> None:
    words = shlex.split(command)
    name = Path(words[0]).name
    if words[0] in ("export", "cd", "alias", "(umask") or words[:2] == ["kubectl", "--kubeconfig"]:
        return  # the latter are in the guide to permissions: test_least_privilege.py runs them
    if words[0] == ".":
        assert words[1].endswith("/bin/activate")
        return
    if name in ("ansible", "ansible-doc"):
        present = [word.replace("widgets.example.com", "configmaps") for word in words[1:]]
        run(name, *present, K8S_AUTH_KUBECONFIG=str(cluster.kubeconfig))
    elif name == "ansible-playbook":
        # What only reads is run; for the others there is no master to touch here.
        # With an older release as the target, as after a restore, the check refuses the cluster here.
        reads = any(word in READING for word in words) and (
            "rolling_upgrade_version=1.36" not in words or "rolling_upgrade_rollback=true" in words
        )
        variables = {"rolling_upgrade_etcd": cluster.etcd} if reads else {}
        (folder / "etcd.yml").write_text(json.dumps(variables), encoding="utf-8")
        inventory = "[kube_control_plane]\nmaster-1 ansible_connection=local\n[clusters]\nmaster-1\n"
        (folder / "inventory.yml").write_text(inventory, encoding="utf-8")
        (folder / "inventory").write_text(inventory, encoding="utf-8")
        (folder / "variables.yml").write_text("{}", encoding="utf-8")
        settings = {"K8S_AUTH_KUBECONFIG": str(cluster.kubeconfig)}
        run(name, *words[1:], *([] if reads else ["--syntax-check"]), folder=folder, **settings)
    elif name == "kubectl" and words[1] == "get":
        cluster.kubectl(*words[1:])
    elif name == "kubectl" and words[1] == "apply":
        if words[-1] != "looker.yml":
            cluster.kubectl(*words[1:], "--dry-run=client")
    elif name == "kubectl":
        options = [word.split("=")[0] for word in words if word.startswith("--")]
        described = cluster.kubectl(words[1], "--help")
        assert options and not [option for option in options if option not in described]
    elif name == "echo":
        json.loads(words[1])
    elif name == "make":
        run("make", "--dry-run", "--always-make", *words[1:])
    elif name == "cluster.py" or any(word.endswith("cluster.py") for word in words):
        run(str(PROGRAMS / "python"), "tests/control_plane/cluster.py", words[words.index("up")], "--help")
    elif name == "pip":
        assert words[1] in ("install", "download")
        wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8")
        assert any(f"\n{word}>=" in wanted for word in words[2:])
        assert_in_help([name, *words[1:]])
    elif name == "python3":
        run(*words[:3], "--help")
    elif name == "pytest":
        assert (ROOT / words[1]).exists()
    elif name == "etcdctl":
        asked = words[3:] if words[1] == "--user" else words[1:]
        assert tuple(asked[:2]) in {
            ("role", "add"),
            ("role", "grant-permission"),
            ("user", "add"),
            ("user", "grant-role"),
            ("endpoint", "status"),
            ("endpoint", "health"),
            ("defrag", "--endpoints"),
        }
    else:
        assert name in ("ansible-galaxy", "ansible-builder", "molecule", "pre-commit"), f"nobody checks: {command}"
        assert_in_help([name, *words[1:]])


def test_commands_work(single_master: Cluster, tmp_path: Path) -> None:
    seen = 0
    for block in (block for block in ALL if block.language == "console"):
        for command in commands(block):
            check_command(command, single_master, tmp_path)
            seen += 1
    assert seen > 20


def test_the_guide_for_stored_versions_fixes_what_it_says(single_master: Cluster) -> None:
    """Followed word by word: the API server's refusal, the guide's command, and then the operator's new CRD."""
    guide = ROOT / "docs" / "docsite" / "rst" / "stored_versions.rst"
    crd = widgets_crd("v1")
    new_release = widgets_crd("v1", versions=("v1",))
    install_widgets(single_master, 5)
    with pytest.raises(ClusterError) as refused:
        apply(single_master, new_release)
    shown = next(block.content for block in blocks(guide) if block.language == "text")
    expected = " ".join(shown.replace("widgets.example.com", crd["metadata"]["name"]).split())
    assert expected in " ".join(str(refused.value).split())
    command = next(line for block in blocks(guide) if block.language == "console" for line in commands(block))
    words = shlex.split(command.replace("widgets.example.com", crd["metadata"]["name"]))
    done = run(*words, K8S_AUTH_KUBECONFIG=str(single_master.kubeconfig))
    assert '"rewritten": 5' in done.stdout
    apply(single_master, new_release)
    single_master.kubectl("delete", "crd", crd["metadata"]["name"])


def test_each_quoted_message_is_one_of_ours() -> None:
    """The guide quotes messages as users see them, with … for what varies, so that a search finds them."""
    guide = (ROOT / "docs/docsite/rst/troubleshooting.rst").read_text(encoding="utf-8")
    quoted = re.findall(r"^``(.+)``$", guide, re.MULTILINE)
    sources = [
        path.read_text(encoding="utf-8")
        for folder, pattern in (("plugins", "**/*.py"), ("roles", "**/*.yml"))
        for path in (ROOT / folder).glob(pattern)
    ]
    whole = " ".join(re.sub(r'"\s*\n\s*f?"', "", source) for source in sources)
    whole = re.sub(r"\s+", " ", whole)
    assert len(quoted) > 15
    variable = r"(?:\{[^{}]+\}|\{\{[^{}]+\}\})+"
    known = [re.escape(message).replace("…", variable) for message in quoted]
    assert not [message for message in known if not re.search(message, whole)]
    assert not [message for message in quoted if "{" in message], "no user has seen a placeholder"


@pytest.fixture(scope="module")
def site() -> Path:
    """Where the site's pages are, built without a warning."""
    run(str(PROGRAMS / "python"), "docs/site/build.py")
    return ROOT / "build" / "docs" / "html"


def test_the_site_is_complete(site: Path) -> None:
    pages = [site / "docsite" / f"{guide.stem}.html" for guide in GUIDES]
    pages += [site / f"{name.removeprefix(COLLECTION)}_module.html" for name in manuals("module")]
    pages += [site / f"playbook_{path.stem}.html" for path in (ROOT / "playbooks").glob("*.yml")]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    pages += [site / link for link in re.findall(r"github\.io/kube_storage\.upgrade/([\w/]+\.html)", readme)]
    assert not [page for page in pages if not page.exists()]
    assert (site / "_images" / "how_it_works.svg").exists()


@browser.NEEDED
def test_a_browser_shows_the_site(site: Path, tmp_path: Path) -> None:
    """Pages of each kind, on a wide screen and a phone; PICTURES names a folder to keep the screenshots in."""
    kinds = ["index", "rolling_upgrade_role", "playbook_upgrade", "storage_version_hashes_module", "all_plugins"]
    kinds += ["docsite/report", "docsite/comparison", "docsite/troubleshooting"]
    pictures = Path(os.environ.get("PICTURES") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)

    async def look() -> None:
        async with browser.browser(str(browser.find())) as page:
            for kind in kinds:
                for width in (1280, 390):
                    await page.look(width=width, scheme="light")
                    await page.open((site / f"{kind}.html").as_uri())
                    await page.picture(pictures / f"site-{kind.replace('/', '-')}-{width}.png")
                    assert await page.evaluate("document.documentElement.scrollWidth") <= width
                    assert await page.evaluate(CUT_OFF) == [], kind
                # Colors and structure are the same on a phone.
                await page.look(width=1280, scheme="light")
                assert await page.violations() == [], kind

    asyncio.run(look())


# Names in the sidebar, and tables of options, that are wider than the room they have; tables of guides can be scrolled.
CUT_OFF = """
[...document.querySelectorAll('.wy-menu-vertical a, table.ansible-option-table, table.ansible-option-table td')]
  .filter(part => part.getClientRects().length && (part.scrollWidth > part.clientWidth + 1
    || part.getBoundingClientRect().right > Math.max(innerWidth, part.closest('nav')?.getBoundingClientRect().right ?? 0) + 1))
  .map(part => part.textContent.trim().slice(0, 60))
"""
