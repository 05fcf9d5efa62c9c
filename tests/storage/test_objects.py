"""Objects are read and written whole, whatever the network does, and errors say nothing secret."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from conftest import SECRET
from faulty_proxy import BUSY, CUT, DENIED, LOST, PASS, Proxy

from pipeline import objects
from pipeline.errors import SettingsError, StorageError, StorageRefused
from pipeline.objects import Place


def content(place: Place) -> bytes:
    found = objects.look(place)
    assert found is not None
    data = bytearray()
    objects.download(place, found, data.extend)
    return bytes(data)


def test_of_many_writers_on_a_condition_the_first_wins(bucket: Place) -> None:
    lock = bucket.below("lock")
    assert objects.put(lock, b"mine", unless="")
    assert not objects.put(lock, b"yours", unless="")
    _, tag = objects.read(lock) or (b"", "")
    assert objects.put(lock, b"taken over", unless=tag)
    assert not objects.put(lock, b"too late", unless=tag)
    assert (objects.read(lock) or (b"", ""))[0] == b"taken over"


def test_a_write_whose_reply_was_lost_is_known_as_ones_own(bucket: Place, proxy: Proxy) -> None:
    begin = len(proxy.asked)
    proxy.fault = lambda asked: LOST if asked.method == "PUT" and asked.number == begin else PASS
    assert objects.put(bucket.below("lock"), b"mine", unless="")
    assert [asked.method for asked in proxy.asked[begin:]][:2] == ["PUT", "PUT"]


def test_a_download_goes_on_where_its_connection_was_cut(bucket: Place, proxy: Proxy) -> None:
    data = os.urandom(3 << 20)
    objects.put(bucket.below("a.pdf"), data)
    found = objects.look(bucket.below("a.pdf"))
    cuts = iter([CUT, PASS, CUT, CUT])
    begin = len(proxy.asked)
    proxy.fault = lambda asked: next(cuts, PASS) if asked.method == "GET" else PASS
    assert found is not None
    got: list[bytes] = []
    objects.download(bucket.below("a.pdf"), found, got.append)
    assert b"".join(got) == data
    assert len(proxy.asked) - begin >= 2 and max(map(len, got)) <= 1 << 20


def test_a_busy_storage_is_asked_again(bucket: Place, proxy: Proxy, tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(17 << 20))  # in three parts
    proxy.fault = lambda asked: BUSY if asked.number % 3 == 0 else PASS
    objects.upload(big, bucket.below("big"))
    assert content(bucket.below("big")) == big.read_bytes()
    assert [found.bytes for found in objects.listed(bucket)] == [17 << 20]


def test_a_storage_that_stays_busy_ends_in_one_line(bucket: Place, proxy: Proxy) -> None:
    proxy.fault = lambda asked: BUSY
    with pytest.raises(StorageError, match=r"cannot be written \(503 SlowDown\); check the network") as ended:
        objects.put(bucket.below("a"), b"")
    assert len(str(ended.value).splitlines()) == 1


def test_a_download_of_what_has_changed_is_refused(bucket: Place) -> None:
    objects.put(bucket.below("a"), b"before")
    found = objects.look(bucket.below("a"))
    objects.put(bucket.below("a"), b"behind")
    assert found is not None
    with pytest.raises(StorageRefused, match="has changed"):
        objects.download(bucket.below("a"), found, lambda piece: None)


def test_a_file_in_storage_is_read_here_and_there_by_few_requests(bucket: Place, proxy: Proxy) -> None:
    data = os.urandom(1 << 20)
    objects.put(bucket.below("a"), data)
    found = objects.look(bucket.below("a"))
    assert found is not None
    begin = len(proxy.asked)
    with io.BufferedReader(objects.Reader(bucket.below("a"), found), 1 << 16) as file:
        assert file.read(100) == data[:100] and file.read(1000) == data[100:1100]
        file.seek(-10, io.SEEK_END)
        assert file.read() == data[-10:]
    assert len(proxy.asked) - begin == 2


def test_a_long_listing_comes_in_pages(bucket: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_PAGE_KEYS", 10)
    for number in range(23):
        objects.put(bucket.below(f"a/{number:02}"), b"")
    assert [found.key for found in objects.listed(bucket.below("a"))] == [f"a/{n:02}" for n in range(23)]


@pytest.mark.parametrize("url", [f"s3://key:{SECRET}@bucket/a", f"s3://{SECRET}@bucket/a", "s3://b:9000/a"])
def test_a_url_with_credentials_is_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(SettingsError, match="must not hold credentials") as refused:
        objects.parse(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("fault", [DENIED, LOST, BUSY])
def test_no_error_of_storage_says_a_secret(
    bucket: Place, proxy: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_endpoint = proxy.url.replace("http://", f"http://user:{SECRET}@")
    monkeypatch.setenv("AWS_ENDPOINT_URL", secret_endpoint)
    objects._client.cache_clear()
    proxy.fault = lambda asked: fault
    with pytest.raises((StorageError, SettingsError)) as ended:
        list(objects.listed(bucket))
    assert SECRET not in f"{ended.value!r}"
    assert ended.value.__suppress_context__  # tracebacks of logs show no cause, which names the endpoint
