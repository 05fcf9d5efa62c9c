"""Compare the keys of millions of rows in little memory: 16 bytes each, whatever their length."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Digests = NDArray[np.uint64]
"""Two numbers for each key, of a hash so long that no two keys share it."""
_BYTES = 16


def digests(columns: Iterable[pa.ChunkedArray]) -> Digests:
    """Return the digests of the keys in some columns, one after the other."""
    parts = [_digests_of(chunk) for column in columns for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)


def _digests_of(keys: pa.Array) -> Digests:
    hashed = (hashlib.blake2b(_bytes(key), digest_size=_BYTES).digest() for key in keys.to_pylist())
    return np.frombuffer(b"".join(hashed), np.uint64).reshape(-1, 2)


def _bytes(key: str | None) -> bytes:
    return b"\xff" if key is None else key.encode()  # which no text is in UTF-8


def newest(keys: Digests) -> NDArray[np.bool_]:
    """Tell of each key whether it is the last one that is the same."""
    order, ends = _grouped(keys)
    found = np.zeros(len(keys), bool)
    found[order[ends]] = True
    return found


def repeated(keys: Digests) -> NDArray[np.bool_]:
    """Tell of each key whether there is another one that is the same."""
    order, ends = _grouped(keys)
    begins = np.concatenate([[True], ends[:-1]]) if len(ends) else ends
    found = np.zeros(len(keys), bool)
    found[order[~(begins & ends)]] = True
    return found


def _grouped(keys: Digests) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return an order with the same keys side by side, the earlier first, and where each group ends."""
    order = np.lexsort((keys[:, 0], keys[:, 1]))  # keeps the order of what is the same
    ordered = keys[order]
    ends = np.ones(len(order), bool)
    ends[:-1] = (ordered[1:] != ordered[:-1]).any(axis=1)
    return order, ends
