"""The real vLLM does what every engine must do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from contract import ContractBench, EngineContract

if TYPE_CHECKING:
    from conftest import Bench


@pytest.fixture(scope="module")  # one engine for all: the last test of the contract closes it
def bench(
    open_bench: Callable[..., Bench], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ContractBench]:
    made = open_bench(tmp_path_factory.mktemp("contract"), "task=transcribe")
    pages = [replace(made.page(n, 64, 64), label=f"Page {n} of 9") for n in (1, 2, 3)]
    torn = replace(made.page(4, 64, 64), label="Page 4 of 9")
    assert torn.image is not None
    torn.image.write_bytes(torn.image.read_bytes()[:100])
    with made.engine:
        yield ContractBench(made.engine, pages, torn, made.count)


class TestVllm(EngineContract):
    """All of the contract."""
