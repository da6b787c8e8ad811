# Copyright (c) 2026, kube_storage.upgrade contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a migration fits into etcd, and that no pace of writing and compaction lets it reach the quota."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from ansible_collections.kube_storage.upgrade.plugins.module_utils._etcd.space import (
    ASSUMED,
    DEFAULT_QUOTA,
    GIVEN,
    NOSPACE,
    TOLD,
    Amount,
    Decision,
    Fit,
    Member,
    Outlook,
    Pacer,
    outlook,
    size_text,
    sizes_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

MIB = 1 << 20
GIB = 1 << 30


def member(size: float, in_use: float | None, quota: float | None = 48, **more: object) -> Member:
    """Sizes in MiB."""
    return Member(
        "etcd-1",
        int(size * MIB),
        None if in_use is None else int(in_use * MIB),
        None if quota is None else int(quota * MIB),
        TOLD,
        **more,  # type: ignore[arg-type]
    )


def evaluated(found: Member, to_write: float, live: float | None = None, at_most: float | None = -1) -> Outlook:
    most = to_write if at_most == -1 else at_most
    amount = Amount(
        int(to_write * MIB), None if most is None else int(most * MIB), None if live is None else int(live * MIB)
    )
    return outlook({"etcd": [found]}, {"etcd": amount})


@pytest.mark.parametrize(
    ("found", "to_write", "live", "fit"),
    [
        (member(26, 25), 24, 24, Fit.PACED),
        (member(26, 25), 8, 24, Fit.FITS),
        (member(26, 25, 2048), 24, 24, Fit.FITS),
        # What is stored anyway leaves no room for a single step.
        (member(46, 45), 24, 44, Fit.NEVER),
        # Just history, which compaction frees.
        (member(46, 45), 24, 20, Fit.PACED),
        # Free pages inside a file that is as large as the quota protect nobody.
        (member(47.5, 20), 24, 20, Fit.NEVER),
        (member(47.5, 20), 0, 20, Fit.FITS),
        (member(26, 25, alarms=((NOSPACE, ""),)), 0, 20, Fit.NEVER),
        # Without a limit.
        (member(26, 25, None), 24, 24, Fit.FITS),
    ],
)
def test_whether_it_fits(found: Member, to_write: float, live: float, fit: Fit) -> None:
    seen = evaluated(found, to_write, live)
    assert seen.fit is fit
    assert bool(seen.why) is bool(seen.remedy) is (fit is not Fit.FITS)
    if fit is not Fit.FITS:
        assert size_text(found.size) in seen.why and "etcd-1" in seen.why


def test_what_only_may_be_stale_never_forbids() -> None:
    """Objects whose key or version etcd doesn't show are counted as work, but don't prove that it can't fit."""
    assert evaluated(member(46, 45), 0, 44, at_most=24).fit is Fit.PACED
    assert evaluated(member(46, 45), 0, None, at_most=None).fit is Fit.PACED
    assert evaluated(member(15, 15), 0, None, at_most=None).fit is Fit.FITS


def test_an_alarm_names_the_member_that_raised_it() -> None:
    """Each member tells the alarms of all, and to replace another one than the corrupt one loses data."""
    alarms = (("CORRUPT", "2748"), (NOSPACE, "17"))
    one, other = (
        replace(member(26, 25, alarms=alarms), where=where, id=id) for where, id in (("a", "17"), ("b", "2748"))
    )
    for members in ([one, other], [other, one]):
        seen = outlook({"etcd": members}, {})
        assert seen.why.startswith("etcd has raised the alarm CORRUPT at b, so it refuses writes: b has a database")
        assert seen.remedy.startswith("Repair b first, and leave the other members as they are")
    # The one that raised it is silent.
    seen = outlook({"etcd": [one]}, {})
    assert seen.why == "etcd has raised the alarm CORRUPT at the member abc, so it refuses writes."
    assert one.as_dict()["alarms"] == ["CORRUPT", NOSPACE]


def test_the_worst_member_of_all_counts() -> None:
    good, tight = member(26, 5), member(26, 25)
    amounts = {"a": Amount(0, 0), "b": Amount(16 * MIB, 16 * MIB)}
    assert outlook({"a": [tight], "b": [good]}, amounts).fit is Fit.FITS
    assert outlook({"a": [good], "b": [good, tight]}, amounts).fit is Fit.PACED
    assert outlook({}, {}).fit is Fit.UNKNOWN


def test_figures_and_waits_in_sentences() -> None:
    seen = evaluated(member(26, 25), 24, 24)
    assert seen.why == (
        "About 24.0 MiB must be rewritten, and etcd-1 has a database of 26.0 MiB, 25.0 MiB of it in use, and a quota of "
        "48.0 MiB. A migration keeps 2.4 MiB of the quota free. The old revisions stay until the API servers compact them."
    )
    assert seen.remedy.startswith("storage_migrate waits for that about 4 times, each for up to 10 minutes")
    assert evaluated(member(26, 25), 0, None, at_most=None).remedy.startswith("storage_migrate waits for that up to ")


@pytest.mark.parametrize(
    ("told", "given", "quota", "source"),
    [(8 * GIB, 4 * GIB, 8 * GIB, TOLD), (None, 4 * GIB, 4 * GIB, GIVEN), (None, None, DEFAULT_QUOTA, ASSUMED)],
)
def test_whose_quota_counts(told: int | None, given: int | None, quota: int, source: str) -> None:
    found = Member("etcd-1", MIB, MIB, told, TOLD if told else ASSUMED).with_quota(given)
    assert (found.quota, found.quota_from) == (quota, source)


def test_a_database_larger_than_the_default_quota_shows_that_the_quota_is_another() -> None:
    found = Member("etcd-1", 3 * GIB).with_quota(None)
    assert found.quota is None
    seen = outlook({"etcd": [found]}, {})
    assert seen.fit is Fit.UNKNOWN and "etcd_quota" in seen.remedy
    assert Pacer(60).look(0, [found]) is Decision.WRITE


def test_no_limit_is_none() -> None:
    assert member(26, 25, None).with_quota(GIB).quota is None
    assert Pacer(60).look(0, [member(26, 25, None)]) is Decision.WRITE


def test_sizes_in_words() -> None:
    assert [size_text(size) for size in (700, 512 << 10, 49 * MIB, 3 * GIB // 2)] == [
        "1 KiB",
        "512 KiB",
        "49.0 MiB",
        "1.5 GiB",
    ]
    before, after = [member(26, 25).as_dict()], [member(47, 27).as_dict(), member(46, 40).as_dict()]
    sizes = sizes_of({"before": before, "after": after})
    assert sizes is not None and sizes.text() == (
        "etcd's database: 26.0 MiB before, 47.0 MiB after; a defragmentation would free 20.0 MiB."
    )
    by_metrics = sizes_of({"before": before, "after": [member(47, None).as_dict()]})
    assert by_metrics is not None and by_metrics.text() == "etcd's database: 26.0 MiB before, 47.0 MiB after."
    for nothing in (None, {}, {"before": [], "after": []}, {"before": before, "after": []}):
        assert sizes_of(nothing) is None


# When writes are held


def test_held_until_compaction_has_freed_pages() -> None:
    pacer = Pacer(600)
    assert pacer.look(0, [member(26, 25)]) is Decision.WRITE
    assert pacer.look(1, [member(45.8, 45.8)]) is Decision.HOLD
    assert "45.8 MiB of it in use" in pacer.why
    assert pacer.look(300, [member(45.8, 45.8)]) is Decision.HOLD
    assert pacer.look(310, [member(45.8, 26)]) is Decision.WRITE
    assert pacer.held_seconds == pytest.approx(309) and pacer.held_since is None


def test_what_is_freed_must_be_worth_a_step() -> None:
    pacer = Pacer(600)
    pacer.look(0, [member(46, 46)])
    assert pacer.look(1, [member(46, 45.5)]) is Decision.HOLD
    assert pacer.look(2, [member(46, 41)]) is Decision.WRITE


def test_patience_ends() -> None:
    pacer = Pacer(600)
    assert pacer.look(0, [member(46, 46)]) is Decision.HOLD
    assert pacer.look(599, [member(46, 46)]) is Decision.HOLD
    assert pacer.look(601, [member(46, 46)]) is Decision.STOP and not pacer.stuck


def test_a_file_at_its_quota_and_an_alarm_stop_at_once() -> None:
    pacer = Pacer(600)
    assert pacer.look(0, [member(47.9, 20)]) is Decision.STOP and pacer.stuck
    alarmed = Pacer(600)
    assert alarmed.look(0, [member(26, 25, alarms=((NOSPACE, ""),))]) is Decision.STOP and alarmed.alarms == (NOSPACE,)


def test_the_tightest_member_holds() -> None:
    assert Pacer(600).look(0, [member(26, 25), member(46, 46)]) is Decision.HOLD


def test_silence_holds_only_where_there_was_little_room() -> None:
    roomy, tight = Pacer(600), Pacer(600)
    roomy.look(0, [member(26, 25, 8192)])
    tight.look(0, [member(26, 25)])
    assert roomy.look(1, []) is Decision.WRITE
    assert tight.look(1, []) is Decision.HOLD
    assert tight.look(2, [member(26, 25)]) is Decision.WRITE


def test_a_member_that_misses_a_look_counts_with_its_last_figures() -> None:
    """It is being defragmented, or restarted; once it is back it takes up all that was written meanwhile."""
    near, roomy = replace(member(46, 46), where="https://near"), member(26, 25, 8192)
    pacer = Pacer(600)
    assert pacer.look(0, [near, roomy]) is Decision.HOLD
    assert pacer.look(1, [roomy]) is Decision.HOLD and "https://near" in pacer.why
    assert pacer.look(2, [replace(near, size=26 << 20, in_use=25 << 20), roomy]) is Decision.WRITE


def test_looks_are_rare_with_room_and_frequent_without() -> None:
    roomy, tight = Pacer(600), Pacer(600)
    roomy.look(0, [member(300, 300, 8192)])
    assert roomy.next_look == 10.0
    tight.look(0, [member(44, 44)])
    assert tight.next_look == pytest.approx(0.1)


def test_by_the_file_alone_freed_pages_are_tried_after_a_while() -> None:
    """The metrics of API servers don't show that compaction has freed pages; a file that doesn't grow does."""
    pacer = Pacer(900)
    assert pacer.look(0, [member(1950, None, 2048)]) is Decision.HOLD
    assert pacer.look(599, [member(1950, None, 2048)]) is Decision.HOLD
    assert pacer.look(601, [member(1950, None, 2048)]) is Decision.WRITE
    assert pacer.look(602, [member(1960, None, 2048)]) is Decision.WRITE
    # No page was free: the file grows.
    assert pacer.look(603, [member(1980, None, 2048)]) is Decision.HOLD
    # Another try might fill etcd.
    assert pacer.look(1500, [member(1980, None, 2048)]) is Decision.HOLD
    assert pacer.look(1504, [member(1980, None, 2048)]) is Decision.STOP


def test_nothing_is_tried_that_could_fill_a_small_etcd() -> None:
    pacer = Pacer(900)
    assert pacer.look(0, [member(45.7, None)]) is Decision.HOLD
    assert pacer.look(899, [member(45.7, None)]) is Decision.HOLD
    assert pacer.look(901, [member(45.7, None)]) is Decision.STOP and not pacer.stuck


def test_what_others_write_says_nothing_about_what_a_try_would_write() -> None:
    pacer = Pacer(9)
    assert pacer.look(0, [member(40, None)]) is Decision.WRITE
    assert pacer.look(1, [member(43, None)]) is Decision.HOLD
    assert pacer.look(8, [member(43.001, None)]) is Decision.HOLD


def test_a_slow_look_allows_no_more_than_half_of_what_remains() -> None:
    for size in (26, 40, 44):
        pacer = Pacer(600)
        assert pacer.look(0, [member(size, size)]) is Decision.WRITE
        assert 0 < pacer.allowance * 50e6 <= max((48 - size) / 2 * MIB, 2.5e6)


@dataclass
class Model:
    """A member of etcd: rewritten objects keep their old revision until it is compacted; the file never shrinks.

    ``misfit``: the share of what is written that finds no freed pages of its size, even if there are some.
    """

    quota: float
    live: float
    misfit: float
    old: float = 0.0
    size: float = 0.0

    def write(self, amount: float) -> None:
        self.old += amount
        self.size = max(self.size + self.misfit * amount, self.live + self.old)

    def compact(self, *, by_metrics: bool) -> None:
        """What stays of each page is copied before the page is free.

        Metrics don't show how much that is, so the reserve must do; etcd limits how much is removed at a time.
        """
        copied = min(1.1 * self.old, self.quota / 80) if by_metrics else 1.1 * self.old
        self.size = max(self.size, self.live + self.old + copied)
        self.old = 0.0

    def seen(self, *, by_metrics: bool) -> Member:
        return member(self.size, None if by_metrics else self.live + self.old, self.quota)


@settings(deadline=None, max_examples=150)
@given(
    quota=st.floats(48, 8192),
    share=st.floats(0.05, 0.99),
    # In shares of the quota.
    to_write=st.floats(0.01, 1.5),
    # A hundredth of the quota in a tenth of a second is 5 MiB/s with the smallest quota, and far more with others.
    speed=st.floats(0.001, 0.01),
    compaction=st.one_of(st.none(), st.floats(5, 300)),
    by_metrics=st.booleans(),
    misfit=st.sampled_from([0.0, 0.0, 0.3]),
    # How long a look takes: longest just when much is written.
    slowness=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
)
def test_the_quota_is_never_reached(
    quota: float,
    share: float,
    to_write: float,
    speed: float,
    compaction: float | None,
    by_metrics: bool,
    misfit: float,
    slowness: float,
) -> None:
    model = Model(quota, share * quota, misfit)
    model.size = model.live
    pacer, now, left, compacted = Pacer(700), 0.0, to_write * quota, 0.0
    for _look in range(20_000):
        decision = pacer.look(now, [model.seen(by_metrics=by_metrics)])
        if decision is Decision.STOP or left <= 0:
            break
        step = pacer.next_look
        if decision is Decision.WRITE:
            # No faster than what looks are planned for.
            step += slowness
            writes_for = min(step, pacer.allowance)
            amount = min(left, speed * quota * writes_for / 0.1, 50 * writes_for)
            model.write(amount)
            left -= amount
        else:
            step = max(step, 5.0)
        now += step
        assert model.size < quota, "etcd would have raised its alarm"
        if compaction is not None and now - compacted > compaction:
            model.compact(by_metrics=by_metrics)
            compacted = now
            assert model.size < quota, "compaction would have filled it"
    else:
        raise AssertionError("it neither ends nor stops")
    if compaction is not None and share < 0.8 and not by_metrics and not misfit:
        assert left <= 0, "with room and compaction everything is written in the end"


def test_what_compaction_will_need_is_left() -> None:
    """Old revisions are removed in transactions that first copy what stays."""
    pacer = Pacer(600)
    assert pacer.look(0, [member(26, 25)]) is Decision.WRITE
    assert pacer.look(300, [member(32, 32)]) is Decision.WRITE
    assert pacer.look(600, [member(37, 37)]) is Decision.HOLD
    # After a while what is there is no longer history.
    settled = Pacer(600)
    settled.look(0, [member(26, 25)])
    for minute in range(20):
        settled.look(60 + 60 * minute, [member(37, 37)])
    assert settled.look(1300, [member(37, 37)]) is Decision.WRITE


@settings(max_examples=300)
@given(
    size=st.integers(0, 8 * GIB),
    used=st.floats(0, 1),
    quota=st.integers(16 * MIB, 8 * GIB),
    to_write=st.integers(0, 8 * GIB),
    live=st.one_of(st.none(), st.integers(0, 8 * GIB)),
)
def test_what_fits_is_never_held(size: int, used: float, quota: int, to_write: int, live: int | None) -> None:
    found = Member("etcd-1", size, int(size * used), quota, TOLD)
    seen = outlook({"etcd": [found]}, {"etcd": Amount(to_write, to_write, live)})
    if seen.fit is Fit.FITS and to_write:
        after = Member("etcd-1", max(size, found.used + to_write), found.used + to_write, quota, TOLD)
        pacer = Pacer(600)
        assert pacer.look(0, [found]) is Decision.WRITE
        assert pacer.look(500, [after]) is Decision.WRITE
