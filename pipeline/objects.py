"""Objects in S3-compatible storage: list, read, write whole, delete; bounded in memory, errors of one line.

Where the storage is and who may use it is said as for any program that uses AWS's own library: environment,
profile or role. No message and no record names more than bucket and key.
"""

from __future__ import annotations

import functools
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pipeline.errors import SettingsError, StorageError, StorageRefused

if TYPE_CHECKING:
    from boto3 import Client

_CHUNK_BYTES = 1 << 20
_PART_BYTES = 8 << 20
_MOST_TRIES = 10
"""With the pauses of botocore's standard mode one or two minutes; AWS_MAX_ATTEMPTS sets another number."""
_CONNECTIONS = 32
_PAGE_KEYS = 1000
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_GONE = {"404", "NoSuchKey", "NotFound"}
_CHANGED = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_LACKING = {"501", "NotImplemented", "InvalidArgument", "InvalidRequest"}
_Result = TypeVar("_Result")


class Found(NamedTuple):
    """An object, as a listing has it."""

    key: str
    bytes: int
    tag: str
    """Changes when the content does."""
    changed: float
    """When that was last, in seconds since 1970."""


class Lacking(Exception):
    """The storage does not know conditional writes."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL names: an object, or all objects whose keys begin so."""

    bucket: str
    key: str

    def __str__(self) -> str:
        """Return the URL."""
        return f"s3://{self.bucket}/{self.key}"

    def below(self, name: str) -> Place:
        """Return the place of a name below this one."""
        return Place(self.bucket, f"{self.key.rstrip('/')}/{name}".lstrip("/"))


def is_url(location: str) -> bool:
    """Tell whether a location is one in object storage."""
    return location.startswith("s3://")


def parse(url: str) -> Place:
    """Return what a URL names. Raises SettingsError, which does not repeat what may be a secret."""
    bucket, _, key = url.removeprefix("s3://").partition("/")
    if any(sign in bucket for sign in "@:?") or re.search(
        r"\?[^/]*(key|secret|token|signature)[^/]*=", key, re.I
    ):
        raise SettingsError(
            "s3://…: a URL must not hold credentials or an endpoint; give these as AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL, or in a profile"
        )
    if not _BUCKET.fullmatch(bucket):
        raise SettingsError("s3://…: names no bucket; write s3://BUCKET/PREFIX")
    return Place(bucket, key)


def check_installed() -> None:
    """Raise SettingsError where the library is missing."""
    try:
        import boto3  # noqa: F401
    except ImportError as error:
        raise SettingsError("s3://…: needs boto3; pip install 'docbatch[s3]'") from error


# ---- reading ----


def listed(place: Place) -> Iterator[Found]:
    """Yield the objects whose keys begin with that of `place`, by key; a thousand are held at a time."""
    more: dict[str, str] = {}
    while True:
        request = functools.partial(
            _client().list_objects_v2, Bucket=place.bucket, Prefix=place.key, MaxKeys=_PAGE_KEYS, **more
        )
        page = _call(place, "listed", request)
        for each in page.get("Contents", ()):
            changed = each["LastModified"].timestamp()
            yield Found(str(each["Key"]), int(each["Size"]), str(each["ETag"]), changed)
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def look(place: Place) -> Found | None:
    """Return one object as a listing has it; None when there is none."""
    request = functools.partial(_client().head_object, Bucket=place.bucket, Key=place.key)
    try:
        head = _call(place, "read", request)
    except _Gone:
        return None
    changed = head["LastModified"].timestamp()
    return Found(place.key, int(head["ContentLength"]), str(head["ETag"]), changed)


def read(place: Place) -> tuple[bytes, str] | None:
    """Return a small object's content and its tag; None when there is none."""
    from botocore.exceptions import BotoCoreError

    request = functools.partial(_client().get_object, Bucket=place.bucket, Key=place.key)
    why = ""
    for _ in range(_most_tries()):
        try:
            found = _call(place, "read", request)
            return bytes(found["Body"].read()), str(found["ETag"])
        except _Gone:
            return None
        except (BotoCoreError, OSError) as error:  # cut while its content came
            why = type(error).__name__
    raise StorageError(f"{place}: cannot be read ({why}); {_CHECK_NETWORK}")


def download(
    place: Place, found: Found, add: Callable[[bytes], object], start: int = 0, end: int | None = None
) -> None:
    """Hand over an object's content, or bytes `start` to `end`, in order, a piece at a time.

    A connection that is cut goes on where it was. Raises StorageRefused when the object is gone or changed.
    """
    failures = 0
    end = found.bytes if end is None else end
    while start < end:
        before = start
        try:
            for piece in _pieces(place, found.tag, start, end):
                add(piece)
                start += len(piece)
        except _Cut as error:
            # What made progress counts anew: a bad line may cut a large object many times.
            failures = 1 if start > before else failures + 1
            if failures >= _most_tries():
                raise StorageError(f"{place}: cannot be read ({error}); {_CHECK_NETWORK}") from None


def _pieces(place: Place, tag: str, start: int, end: int) -> Iterator[bytes]:
    from botocore.exceptions import BotoCoreError

    request = functools.partial(
        _client().get_object,
        Bucket=place.bucket,
        Key=place.key,
        IfMatch=tag,
        Range=f"bytes={start}-{end - 1}",
    )
    body = _call(place, "read", request)["Body"]
    try:
        while start < end:
            piece = body.read(min(_CHUNK_BYTES, end - start))
            if not piece:
                raise _Cut("the connection was cut")
            start += len(piece)
            yield piece
    except (BotoCoreError, OSError) as error:
        raise _Cut(type(error).__name__) from None
    finally:
        body.close()


class Reader(io.RawIOBase):
    """An object as a file of which a few pieces are read."""

    def __init__(self, place: Place, found: Found) -> None:
        self._place, self._found, self._at = place, found, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._found.bytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._found.bytes)
        data = bytearray()
        download(self._place, self._found, data.extend, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


# ---- writing ----


def put(place: Place, data: bytes, unless: str | None = None) -> bool:
    """Write a small object; tell whether it was written.

    `unless`: a tag, and it is not written unless the object still has it; "" stands for no object at all.
    Raises Lacking where the storage does not know such conditions.
    """
    condition = {} if unless is None else {"IfMatch": unless} if unless else {"IfNoneMatch": "*"}
    request = functools.partial(
        _client().put_object, Bucket=place.bucket, Key=place.key, Body=data, **condition
    )
    try:
        _call(place, "written", request, may_lack=bool(condition))
    except (_Changed, _Gone):
        # A reply that was lost on its way has the library write again: it is our own that is there then.
        there = read(place)
        return there is not None and there[0] == data
    return True


def upload(file: Path, place: Place) -> None:
    """Write an object of any size from a file; it is there whole or not at all."""
    from boto3.s3.transfer import TransferConfig

    # Without threads one part is in memory at a time.
    config = TransferConfig(
        use_threads=False, multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES
    )
    with file.open("rb") as opened:
        request = functools.partial(_client().upload_fileobj, opened, place.bucket, place.key, Config=config)
        _call(place, "written", request)


def delete(place: Place) -> None:
    """Delete an object; one that is gone already is no error."""
    _call(place, "deleted", functools.partial(_client().delete_object, Bucket=place.bucket, Key=place.key))


def delete_below(place: Place) -> None:
    """Delete every object below a place, one after the other, by key."""
    for found in listed(Place(place.bucket, f"{place.key.rstrip('/')}/")):
        delete(Place(place.bucket, found.key))


# ---- the library, and what its errors mean ----


class _Gone(StorageRefused):
    """There is no such object."""


class _Changed(StorageRefused):
    """The object is not what it was, or not what a condition asks for."""


class _Cut(Exception):
    """A connection ended before all was sent."""


_CHECK_NETWORK = "check the network and AWS_ENDPOINT_URL, and run again"
_CHECK_RIGHTS = "check the credentials and what they are allowed to do"


# One for all threads: boto3's clients may be shared, its sessions may not.
@functools.cache
def _client() -> Client:
    check_installed()
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    # The library's own variables come first.
    retries = {} if "AWS_MAX_ATTEMPTS" in os.environ else {"total_max_attempts": _MOST_TRIES}
    mode = {} if "AWS_RETRY_MODE" in os.environ else {"mode": "standard"}
    config = Config(
        retries={**retries, **mode}, connect_timeout=10, read_timeout=60, max_pool_connections=_CONNECTIONS
    )
    try:
        return boto3.client("s3", config=config)
    except (BotoCoreError, ValueError) as error:  # an endpoint that is none may hold a secret: it is not said
        raise SettingsError(
            f"s3://…: cannot be used ({type(error).__name__}); check AWS_ENDPOINT_URL and the profile"
        ) from None


def _most_tries() -> int:
    said = os.environ.get("AWS_MAX_ATTEMPTS", "")
    return max(1, int(said)) if said.isdigit() else _MOST_TRIES


def _call(place: Place, done: str, request: Callable[[], _Result], may_lack: bool = False) -> _Result:
    """Make a request; `done` is what fails where it does. What the library says of it is not shown."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        return request()
    except ClientError as error:
        raise _meaning(place, done, error.response, may_lack) from None
    except NoCredentialsError:
        why = "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise StorageError(f"{place}: cannot be {done}: {why}") from None
    except (BotoCoreError, OSError) as error:
        raise StorageError(f"{place}: cannot be {done} ({type(error).__name__}); {_CHECK_NETWORK}") from None


def _meaning(place: Place, done: str, response: dict[str, dict[str, object]], may_lack: bool) -> Exception:
    code = str(response.get("Error", {}).get("Code", ""))
    status = str(response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
    said: set[str] = {code, status}
    if code == "NoSuchBucket":
        return StorageError(f"s3://{place.bucket}: there is no such bucket; make it, or check the name")
    if said & _GONE:
        return _Gone(f"{place}: is not there; check the name")
    if said & _CHANGED:
        return _Changed(f"{place}: has changed; run again")
    if may_lack and said & _LACKING:
        return Lacking(str(place))
    if code in ("AccessDenied", "403"):
        return StorageRefused(f"{place}: may not be {done} with these credentials; {_CHECK_RIGHTS}")
    remedy = _CHECK_RIGHTS if status in ("400", "401", "403") else _CHECK_NETWORK
    return StorageError(f"{place}: cannot be {done} ({' '.join(filter(None, (status, code)))}); {remedy}")
