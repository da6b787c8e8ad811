# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a probe leaves behind where API servers write differently."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.errors import (
    EtcdError,
    EtcdFullError,
    NotConvergedError,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._base.events import Event
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.scan import (
    Stored,
    StoredObject,
    Tally,
    Variant,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.stale import Knowledge, evaluate_all
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.probe import (
    Asked,
    NotPutBack,
    Prober,
    Unpatched,
    _Patched,
)
from ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects import StaleObjects
from ansible_collections.kube_storage.upgrade.plugins.module_utils._versions.hashes import (
    ServedResource,
    storage_version_hash,
)

SEALED = Variant(None, "encrypted", "aescbc", "v1", "key1")
OTHER_KEY = SEALED._replace(key="key2")
PLAIN = Variant("v1", "protobuf")
PLACE = StoredObject("default", "secret", 5)
HASH = storage_version_hash("", "v1", "Secret")
SECRETS = ServedResource("secrets", "", "secrets", "Secret", True, frozenset({"list", "patch"}), ("v1",), (HASH,))
A, B, C = "https://a", "https://b", "https://c"


class Servers(Prober):
    """API servers by what each writes; ``stored`` is how etcd has the object.

    ``answers``: what a server says to its first, second … patch instead of writing; an exception is raised.
    ``writes_unseen``: its answers get lost. ``other_key``: the stored object is under another key of the same name.
    """

    def __init__(self, writes: dict[str, Variant], stored: Variant) -> None:
        servers: list[Any] = [SimpleNamespace(url=url) for url in writes]
        super().__init__(SimpleNamespace(), servers, ())  # type: ignore[arg-type]
        self.writes, self.stored, self.revision = writes, stored, PLACE.mod_revision
        self.answers: dict[str, list[Unpatched | BaseException | None]] = {}
        self.writes_unseen: set[str] = set()
        self.other_key = False

    async def _patch(self, server: Any, _resource: Any, _place: Any) -> _Patched | Unpatched:
        answers = self.answers.get(server.url)
        answer = answers.pop(0) if answers else None
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            return answer
        before, written = self.revision, self.writes[server.url]
        rewrites = written != self.stored or self.other_key
        self.other_key = False
        self.revision += rewrites
        self.wrote = self.wrote or rewrites
        self.stored = written
        if server.url in self.writes_unseen:
            return Unpatched("it got lost", perhaps_done=True)
        return _Patched(before, self.revision, written, before != self.revision)

    async def form_of(self, _name: str, _place: Any, _revision: int | None = None) -> Variant | None:
        return self.stored


def probed(servers: Servers, stored: Variant = SEALED) -> Asked:
    return asyncio.run(servers.ask(SECRETS, PLACE, stored))


@pytest.mark.parametrize(
    ("writes", "left"),
    [
        ((SEALED, PLAIN), SEALED),
        ((PLAIN, SEALED), SEALED),
        ((SEALED, OTHER_KEY), SEALED),
        ((SEALED, SEALED), SEALED),
        ((OTHER_KEY, OTHER_KEY), OTHER_KEY),
    ],
)
def test_a_secret_is_left_as_it_was_where_servers_differ(writes: tuple[Variant, Variant], left: Variant) -> None:
    servers = Servers(dict(zip((A, B), writes)), SEALED)
    asked = probed(servers)
    assert tuple(asked.written.values()) == writes
    assert servers.stored == left and servers.not_put_back == []


def test_a_secret_that_can_not_be_put_back_is_noted() -> None:
    servers = Servers({A: SEALED, B: PLAIN}, SEALED)
    servers.answers = {A: [None, Unpatched("https://a refused to write it: denied.")]}
    probed(servers)
    assert servers.stored == PLAIN
    assert servers.not_put_back == [
        NotPutBack("secrets", PLACE, SEALED, PLAIN, "https://a refused to write it: denied.")
    ]


def test_what_somebody_else_put_back_or_deleted_is_not_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (SEALED, None):

        async def stored_now(*_args: Any, now: Variant | None = now) -> Variant | None:
            return now

        servers = Servers({A: SEALED, B: PLAIN}, SEALED)
        servers.answers = {A: [None, Unpatched("others keep writing it")]}
        monkeypatch.setattr(servers, "form_of", stored_now)
        probed(servers)
        assert servers.not_put_back == []


def test_a_server_whose_answer_got_lost_is_put_back_too() -> None:
    servers = Servers({A: SEALED, B: PLAIN}, SEALED)
    servers.writes_unseen = {B}
    probed(servers)
    assert servers.stored == SEALED and servers.not_put_back == []


@pytest.mark.parametrize("error", [EtcdError("It is away."), asyncio.CancelledError()])
def test_an_interrupted_probe_puts_back(error: BaseException) -> None:
    """Also where another resource's probe fails, which cancels this one; the third server is asked when it happens."""
    servers = Servers({A: SEALED, B: PLAIN, C: PLAIN}, SEALED)
    servers.answers = {C: [error]}
    with pytest.raises(type(error)):
        probed(servers)
    assert servers.stored == SEALED and servers.not_put_back == []


def test_a_full_etcd_leaves_it_and_says_so() -> None:
    servers = Servers({A: SEALED, B: PLAIN}, SEALED)
    servers.answers = {A: [None, EtcdFullError()]}
    with pytest.raises(EtcdFullError):
        probed(servers)
    (left,) = servers.not_put_back
    assert (left.before, left.now) == (SEALED, None) and left.why.startswith("etcd is full")


def stale_objects(
    monkeypatch: pytest.MonkeyPatch, servers: Servers, told: list[Event], stored: Variant = SEALED
) -> StaleObjects:
    """One Secret, whose probe is that of these servers."""
    objects = StaleObjects(cast(Any, None))
    found = {stored: Tally("Secret", 1, newest=5, latest=("default", "secret"))}
    objects._evaluation = evaluate_all(
        Stored(revision=9, resources={"secrets": found}), Knowledge({"secrets": SECRETS}, ())
    )
    objects._resources, objects._names, objects._report = {"secrets": SECRETS}, ["secrets"], told.append
    monkeypatch.setattr(
        "ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects.Prober",
        lambda *_args: servers,
    )
    return objects


def test_the_error_names_what_stays_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers({A: SEALED, B: PLAIN}, SEALED)
    servers.answers = {A: [None, Unpatched("https://a refused to write it: denied.")]}
    with pytest.raises(NotConvergedError) as error:
        asyncio.run(stale_objects(monkeypatch, servers, []).probe((), ["secrets"]))
    assert error.value.message.endswith(
        "and run again. secrets default/secret was stored as aescbc v1 key1 and could not be put back (https://a refused to write it: denied): "
        "it is now stored as protobuf without encryption as v1. The next run that succeeds rewrites what stays changed."
    )


def test_an_interrupted_run_says_what_stays_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers({A: SEALED, B: OTHER_KEY, C: OTHER_KEY}, SEALED)
    servers.answers = {A: [None, Unpatched("https://a does not answer.")], C: [asyncio.CancelledError()]}
    told: list[Event] = []
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stale_objects(monkeypatch, servers, told).probe((), ["secrets"]))
    (notice,) = told
    assert notice.message.startswith("secrets default/secret was stored as aescbc v1 key1 and could not be put back")
    assert notice.message.endswith("Until then, every API server needs the key that encrypts it now.")


# Servers that showed nothing, or write differently by now


def read(objects: StaleObjects, monkeypatch: pytest.MonkeyPatch, found: Stored) -> Any:
    """What remains, if nothing was written since the first scan, and another scan of everything finds this."""

    async def changes(*_args: Any, **_more: Any) -> Stored:
        return Stored(revision=12)

    async def scan(*_args: Any, **_more: Any) -> Stored:
        return found

    async def there(_etcd: Any, _prefix: str, objects: list[StoredObject]) -> list[StoredObject]:
        return objects

    module = "ansible_collections.kube_storage.upgrade.plugins.module_utils._migration.stale_objects"
    monkeypatch.setattr(f"{module}.changes_in_clusters", changes)
    monkeypatch.setattr(f"{module}.scan_clusters", scan)
    monkeypatch.setattr(f"{module}.still_there", there)
    objects._etcd = SimpleNamespace(of=lambda _name: None)  # type: ignore[assignment]
    return asyncio.run(objects.left())


def held(variant: Variant) -> Stored:
    kept = [StoredObject("default", f"s{number}", 5) for number in range(3)]
    return Stored(
        revision=12, resources={"secrets": {variant: Tally("Secret", 3, newest=5, latest=("default", "s2"), kept=kept)}}
    )


@pytest.mark.parametrize("replaced", [False, True])
def test_servers_that_load_another_key_during_the_run(monkeypatch: pytest.MonkeyPatch, replaced: bool) -> None:
    """By a restart or without: what is under the key that they had before is stale, although nobody has written since."""
    servers = Servers({A: SEALED, B: SEALED}, SEALED)
    objects = stale_objects(monkeypatch, servers, [])
    asyncio.run(objects.probe((), ["secrets"]))
    objects.select(())
    assert not read(objects, monkeypatch, held(SEALED)).count
    servers.writes = {A: OTHER_KEY, B: OTHER_KEY}
    asyncio.run(objects.probe_again((), replaced=replaced))
    left = read(objects, monkeypatch, held(SEALED))
    assert left.count == {"secrets": 3} and left.reasons == {"secrets": ["encryption"]}
    assert list(objects.rewritten) == ["secrets"] and objects.wrote


def test_servers_with_another_media_type_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    json = Variant("v1", "json")
    servers = Servers({A: PLAIN, B: PLAIN}, PLAIN)
    objects = stale_objects(monkeypatch, servers, [], PLAIN)
    asyncio.run(objects.probe((), ["secrets"]))
    servers.writes = {A: json, B: json}
    asyncio.run(objects.probe_again((), replaced=True, edited={"secrets"}))
    assert servers.stored == PLAIN, "nothing is written to what is visited again anyway"
    monkeypatch.setattr(objects, "_may_be_reloaded", lambda _name: False)
    asyncio.run(objects.probe_again((), replaced=False))
    assert read(objects, monkeypatch, held(PLAIN)).reasons == {"secrets": ["encoding"]}


def test_servers_that_begin_to_encrypt_during_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers({A: PLAIN, B: PLAIN}, PLAIN)
    objects = stale_objects(monkeypatch, servers, [], PLAIN)
    asyncio.run(objects.probe((), ["secrets"]))
    servers.writes = {A: SEALED, B: SEALED}
    asyncio.run(objects.probe_again((), replaced=False))
    assert read(objects, monkeypatch, held(PLAIN)).reasons["secrets"][-1] == "encryption"


def test_servers_that_write_differently_by_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart of one after another, with a new key, has begun."""
    servers = Servers({A: SEALED, B: SEALED}, SEALED)
    objects = stale_objects(monkeypatch, servers, [])
    asyncio.run(objects.probe((), ["secrets"]))
    servers.writes = {A: SEALED, B: OTHER_KEY}
    with pytest.raises(NotConvergedError, match="write objects differently"):
        asyncio.run(objects.probe_again((), replaced=True))


def test_two_keys_with_one_name_stay_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first rewrite shows that there are two; the second time, the same object is current."""
    servers = Servers({A: SEALED}, SEALED)
    servers.other_key = True
    objects = stale_objects(monkeypatch, servers, [])
    asyncio.run(objects.probe((), ["secrets"]))
    assert objects._evaluation.expected["secrets"].key_repeated
    asyncio.run(objects.probe_again((), replaced=True))
    assert read(objects, monkeypatch, held(SEALED)).encryption_unknown == {"secrets": 3}


def test_servers_that_show_nothing_anymore(monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook refuses every write by now, so how restarted servers encrypt is unknown."""
    servers = Servers({A: SEALED}, SEALED)
    objects = stale_objects(monkeypatch, servers, [])
    asyncio.run(objects.probe((), ["secrets"]))
    servers.answers = {A: [Unpatched("denied")] * 9}
    asyncio.run(objects.probe_again((), replaced=True))
    assert read(objects, monkeypatch, held(SEALED)).encryption_unknown == {"secrets": 3}


SILENT = Unpatched("others keep writing it")


@pytest.mark.parametrize(("silences", "unknown"), [(1, 0), (9, 3)])
def test_every_server_must_show_how_it_writes(monkeypatch: pytest.MonkeyPatch, silences: int, unknown: int) -> None:
    """One that could not write the first object is asked for another; one that wrote none may use another key."""
    servers = Servers({A: SEALED, B: SEALED}, SEALED)
    servers.answers = {B: [SILENT] * silences}
    objects = stale_objects(monkeypatch, servers, [])
    objects._evaluation.stored.resources["secrets"] = held(SEALED).resources["secrets"]
    asyncio.run(objects.probe((), ["secrets"]))
    objects.select(())
    assert sum(read(objects, monkeypatch, held(SEALED)).encryption_unknown.values()) == unknown


def test_a_silent_server_is_not_asked_about_every_object(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may cost a timeout, for each of many resources."""
    servers = Servers({A: SEALED, B: SEALED}, SEALED)
    servers.answers = {B: [Unpatched("https://b did not answer in time.", silent=True)] * 9}
    objects = stale_objects(monkeypatch, servers, [])
    objects._evaluation.stored.resources["secrets"] = held(SEALED).resources["secrets"]
    asyncio.run(objects.probe((), ["secrets"]))
    assert len(servers.answers[B]) == 7 and objects._evaluation.expected["secrets"].encryption_source == "newest"


def test_servers_are_compared_even_if_no_object_was_written_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = Servers({A: SEALED, B: OTHER_KEY}, SEALED)
    servers.answers = {B: [SILENT], A: [None, SILENT]}
    objects = stale_objects(monkeypatch, servers, [])
    objects._evaluation.stored.resources["secrets"] = held(SEALED).resources["secrets"]
    with pytest.raises(NotConvergedError, match="aescbc v1 key1 by https://a, aescbc v1 key2 by https://b"):
        asyncio.run(objects.probe((), ["secrets"]))
