from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tables import keys

_columns = st.lists(st.lists(st.text(alphabet="ab\u00e4", max_size=2), max_size=6), max_size=4)


@given(_columns)
@settings(deadline=None)
def test_of_the_same_keys_the_last_is_the_newest_and_all_are_repeated(columns: list[list[str]]) -> None:
    digests = keys.digests(pa.chunked_array([column], pa.string()) for column in columns)
    flat = [key for column in columns for key in column]
    last = {key: number for number, key in enumerate(flat)}
    assert keys.newest(digests).tolist() == [last[key] == number for number, key in enumerate(flat)]
    assert keys.repeated(digests).tolist() == [flat.count(key) > 1 for key in flat]
