"""An output in object storage keeps what was said to last, and one run at a time writes it."""

from __future__ import annotations

import contextlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from faulty_proxy import BUSY, LACKING, LOST, PASS, Asked, Proxy

from pipeline import objects, store
from pipeline.config import ShardSettings, SinkSettings
from pipeline.errors import OutputError, PipelineError, SettingsError
from pipeline.objects import Place
from pipeline.owner import this_process
from pipeline.records import Answer, Cell, Document, Question, Subject
from pipeline.tables import frames, lock, sink
from pipeline.tables.lock import Lock
from pipeline.tables.rows import Stamp
from pipeline.tables.sink import Tables

WHOLE = ShardSettings(index=0, count=1, planned=False)


@contextlib.contextmanager
def opened(url: str, shard: ShardSettings = WHOLE) -> Iterator[Tables]:
    """Open the tables of an output as a process does that has nothing of it yet."""
    settings = SinkSettings(journal_seconds=5, journal_parts=64, checkpoint_rows=20_000)
    stamp = Stamp(model="m", engine="e", task="qa", run_id="r", settings_hash="s")
    with store.opened(url) as folder, sink.opened(folder, shard, settings, stamp, {}) as tables:
        yield tables


def cell(name: str) -> Cell:
    subject = Subject("document", name, f"id-{name}", (), 3)
    return Cell(f"id-{name}-q", subject, Question("q", "q?"))


def add(tables: Tables, *names: str) -> None:
    for name in names:
        want(tables, name)
        tables.sink.add_answer(Answer(cell(name), "ok", answer=f"to {name}"))


def want(tables: Tables, name: str) -> None:
    tables.wanted.add_document(Document(name, Path(name), "pdf", 1, f"id-{name}"))
    tables.wanted.want(cell(name))


def keys(place: Place) -> list[str]:
    return [found.key.removeprefix(place.key) for found in objects.listed(place)]


def answered(url: str) -> list[str]:
    with store.opened(url) as folder:
        return list(frames.answers(folder)["source"])


def test_what_was_committed_is_there_for_another_machine(bucket: Place) -> None:
    url = str(bucket.below("run"))
    with opened(url) as first:
        add(first, "a", "b")
        first.sink.commit()
        add(first, "c")  # never committed: lost with the process
        here = first.layout.output
    assert not here.exists()
    with opened(url) as second:
        assert [second.known.is_finished(cell(name), True) for name in "abc"] == [True, True, False]
        want(second, "a")
        want(second, "b")
        add(second, "c")
        second.sink.commit()
        second.sink.publish(complete=True)
    assert answered(url) == ["a", "b", "c"]
    assert not [key for key in keys(bucket) if "part-" in key]


@pytest.mark.parametrize("member", ["../outside", "/etc/outside", "sub/inside", "link"])
def test_an_archive_that_is_no_part_of_a_journal_writes_nothing_outside_of_it(
    bucket: Place, tmp_path: Path, member: str
) -> None:
    url = str(bucket.below("run"))
    with opened(url) as tables:
        add(tables, "a")
        tables.sink.commit()
    (part,) = [key for key in keys(bucket) if key.endswith(".tar")]
    with tarfile.open(tmp_path / "odd.tar", "w") as archive:
        odd = tarfile.TarInfo(member)
        if member == "link":
            odd.type, odd.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(odd)
    objects.upload(tmp_path / "odd.tar", bucket.below(part))
    with pytest.raises(OutputError, match=r"\.tar: cannot be read \(TarError\); restore it"), opened(url):
        pass
    assert not list(tmp_path.rglob("*side"))


def scenario(url: str, committed: set[str]) -> None:
    """Commit and publish several times; note what was said to last."""
    with opened(url) as tables:
        for round_ in ("ab", "c", "de"):
            add(tables, *round_)
            tables.sink.commit()
            committed |= set(round_)
            if round_ != "c":
                tables.sink.publish(complete=False)


def test_nothing_is_lost_or_doubled_at_whichever_write_the_storage_goes_away(
    bucket: Place, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    objects._client.cache_clear()
    monkeypatch.setattr(lock, "is_alive", lambda owner: False)  # as that of a process that has gone with it
    calm = len(proxy.asked)
    scenario(str(bucket.below("calm")), set())
    writes = [asked for asked in proxy.asked[calm:] if asked.method in ("PUT", "DELETE")]
    assert len(writes) >= 15
    # Every third write: the others take as long again, and go the same ways.
    for count in range(1, len(writes), 3):
        url, committed = str(bucket.below(f"run-{count:02}")), set[str]()
        proxy.fault = away_from(count, BUSY if count % 2 else LOST)
        with contextlib.suppress(PipelineError):
            scenario(url, committed)
        proxy.fault = lambda asked: PASS
        with opened(url) as again:
            lost = {name for name in committed if not again.known.is_finished(cell(name), True)}
            assert not lost, f"write {count}"
            for name in "abcde":
                (want if again.known.is_finished(cell(name), True) else add)(again, name)
            again.sink.commit()
            again.sink.publish(complete=True)
        assert answered(url) == list("abcde"), f"write {count}"


def away_from(count: int, fault: str) -> Callable[[Asked], str]:
    """Let the storage go away at a write, which is not done, or done without a reply."""
    seen = 0

    def choose(asked: Asked) -> str:
        nonlocal seen
        is_write = asked.method in ("PUT", "DELETE")
        seen += is_write
        if seen <= count:
            return PASS
        return fault if seen == count + 1 and is_write else BUSY

    return choose


def test_a_run_is_refused_while_another_writes_and_takes_over_from_a_dead_one(bucket: Place) -> None:
    url = str(bucket.below("run"))
    with opened(url), pytest.raises(OutputError, match="being written by another run"), opened(url):
        pass
    gone = replace(this_process(), pid=2**22 + 1, token="gone")
    place = bucket.below("run/_journal/shard-0000-of-0001/lock")
    objects.put(place, json.dumps(asdict(gone)).encode())
    with opened(url) as tables:
        tables.sink.lock.check()


def test_of_two_that_find_no_lock_at_the_same_moment_one_gets_it(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.opened(str(bucket.below("run"))) as folder:
        first, second = Lock(folder / "lock", "it"), Lock(folder / "lock", "it")
        first.acquire()
        looks = iter([lambda: None])  # it had looked before
        look = second.refuse_if_held
        monkeypatch.setattr(second, "refuse_if_held", lambda: next(looks, look)())
        with pytest.raises(OutputError, match="being written by another run"):
            second.acquire()
        first.check()


def test_what_a_dead_run_had_asked_for_and_is_done_late_stops_nobody(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.opened(str(bucket.below("run"))) as folder:
        dead, mine = Lock(folder / "lock", "it"), Lock(folder / "lock", "it")
        looks = iter([lambda: None])
        look = mine.refuse_if_held
        monkeypatch.setattr(mine, "refuse_if_held", lambda: next(looks, look)())
        dead.acquire()  # its claim arrives when mine has looked already
        monkeypatch.setattr(lock, "is_alive", lambda owner: False)
        mine.acquire()
        dead.release()  # and so does its letting go
        mine.check()


def test_an_output_that_is_written_meanwhile_can_be_read(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put(bucket.below("run/run.json"), b"before")
    objects.put(bucket.below("run/gone.json"), b"gone")
    listed = objects.listed

    def changed_then(place: Place) -> Iterator[objects.Found]:
        found = list(listed(place))
        objects.put(bucket.below("run/run.json"), b"behind")
        objects.delete(bucket.below("run/gone.json"))
        yield from found

    monkeypatch.setattr(objects, "listed", changed_then)
    with store.opened(str(bucket.below("run"))) as folder:
        store.fetch(folder)
        assert (folder / "run.json").read_text() == "behind"
        assert not (folder / "gone.json").exists()


@pytest.mark.parametrize("refuses", [True, False])
def test_a_storage_without_conditional_writes_is_used_with_a_warning(
    bucket: Place, proxy: Proxy, refuses: bool, caplog: pytest.LogCaptureFixture
) -> None:
    if refuses:
        proxy.fault = lambda asked: LACKING if asked.conditional else PASS
    else:
        proxy.drops_conditions = True
    with store.opened(str(bucket.below("run"))) as folder:
        first, second = Lock(folder / "lock", "it"), Lock(folder / "lock", "it")
        first.acquire()
        assert "does not write on conditions" in caplog.text
        with pytest.raises(OutputError, match="being written by another run"):
            second.acquire()
        store.claim(folder / "lock", json.dumps(asdict(second._owner)), None, by="x")  # it had looked before
        with pytest.raises(OutputError, match="was taken over"):
            first.check()  # and so before it writes anything more


def test_a_shard_fetches_its_own_rows_alone(bucket: Place, proxy: Proxy) -> None:
    url = str(bucket.below("run"))
    for index in range(2):
        with opened(url, ShardSettings(index=index, count=2, planned=False)) as tables:
            add(tables, f"{index}")
            tables.sink.commit()
            tables.sink.publish(complete=True)
    begin = len(proxy.asked)
    with opened(url, ShardSettings(index=1, count=2, planned=False)):
        asked = [each.path for each in proxy.asked[begin:] if each.method == "GET"]
    assert not [path for path in asked if re.search(r"shard-0000-of-0002(/|\.parquet)", path)]
    with (
        pytest.raises(OutputError, match="was written as 2 shards, not 3"),
        opened(url, ShardSettings(index=0, count=3, planned=False)),
    ):
        pass


def test_the_date_of_an_output_is_the_same_for_all_its_shards(bucket: Place) -> None:
    import datetime as dt

    url = str(bucket.below("run"))
    for index, day in enumerate((dt.date(2026, 11, 27), dt.date(2026, 11, 28))):
        with opened(url, ShardSettings(index=index, count=2, planned=False)) as tables:
            assert tables.layout.first_date(day) == dt.date(2026, 11, 27)


def test_messages_name_the_url_and_not_the_folder_that_stands_for_it(bucket: Place) -> None:
    url = str(bucket.below("run"))
    objects.put(bucket.below("run/_journal/shard-0000-of-0001/lock"), b"no lock")
    with pytest.raises(OutputError) as refused, opened(url):
        pass
    assert f"{url}/_journal/shard-0000-of-0001/lock: is not a lock" in store.named(str(refused.value))


def test_an_output_that_is_not_opened_says_so() -> None:
    with pytest.raises(SettingsError, match="leave out Hydra's own options"):
        store.folder("s3://bucket/run")
