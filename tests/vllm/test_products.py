"""FP8 products: the faster one is used for long steps, where it comes to vLLM's values, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipeline.engines.vllm import fp8_products
from pipeline.engines.vllm.fp8_products import TriedProduct, suits

LONG = 32


def multiply(
    a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype
) -> torch.Tensor:
    return ((a.float() * scale_a) @ (b.float() * scale_b)).to(out)


class Faster:
    """A product that is off by `far`, and counts how often it multiplied the tokens of a step."""

    def __init__(self, far: float = 0.0) -> None:
        self.far, self.tokens = far, list[int]()

    def __call__(
        self, a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype
    ) -> torch.Tensor:
        self.tokens.append(a.shape[0])
        if self.far == float("inf"):
            raise RuntimeError("no kernel for this shape")
        return multiply(a, b, scale_a, scale_b, out) * (1 + self.far)


def operands(tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.dtype]:
    a = torch.randn(tokens, 64).to(torch.float8_e4m3fn)
    b = torch.randn(48, 64).to(torch.float8_e4m3fn).t()
    return a, b, torch.rand(tokens, 1), torch.ones(1), torch.bfloat16


def test_long_steps_take_the_faster_product_and_short_ones_vllms() -> None:
    faster = Faster()
    product = TriedProduct(multiply, faster, LONG)
    product(*operands(LONG - 1))
    assert faster.tokens == []
    product(*operands(2 * LONG))
    product(*operands(3 * LONG))
    assert faster.tokens == [LONG, 2 * LONG, 3 * LONG]  # tried once, then used


@pytest.mark.parametrize("far", [0.05, float("nan"), float("inf")])
def test_a_product_that_comes_to_other_values_or_to_none_is_never_used(far: float) -> None:
    faster = Faster(far)
    product = TriedProduct(multiply, faster, LONG)
    given = operands(2 * LONG)
    for _ in range(2):
        assert torch.equal(product(*given), multiply(*given))
    assert faster.tokens == [LONG]


@pytest.fixture
def traced() -> Iterator[fp8_products.Product]:
    product = fp8_products._operation(TriedProduct(multiply, Faster(0.004), LONG))
    yield torch.compile(product, dynamic=True, backend="eager")
    torch._dynamo.reset()


def test_a_traced_model_chooses_by_the_length_of_each_step(traced: fp8_products.Product) -> None:
    """vLLM drops the guards of what it traces: a choice that is traced would stay that of the first step."""
    for tokens, exact in ((2 * LONG, False), (LONG // 2, True), (4 * LONG, False)):
        given = operands(tokens)
        assert torch.equal(traced(*given), multiply(*given)) is exact


def test_only_products_with_one_scale_per_token_are_taken() -> None:
    a, b, scale_a, scale_b, out = operands(LONG)
    assert suits(a, b, scale_a, scale_b, out)
    assert suits(a, b, scale_a, torch.ones(48, 1), out)
    assert not suits(a, b, torch.ones(1), scale_b, out)  # one for all tokens
    assert not suits(a, b, torch.ones(LONG, 2), torch.ones(2, 3), out)  # one per block
    assert not suits(a.to(torch.bfloat16), b, scale_a, scale_b, out)
    assert not suits(a, b, scale_a, scale_b, torch.float16)


def test_vllm_calls_the_product_that_replaces_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import _custom_ops as operations

    monkeypatch.setattr(operations, "cutlass_scaled_mm", lambda a, b, *rest: a.new_zeros(1))
    assert fp8_products.install() is None
    replaced = operations.cutlass_scaled_mm
    assert fp8_products.install() is None  # a second engine in the same process
    assert operations.cutlass_scaled_mm is replaced
    a, b, scale_a, scale_b, out = operands(4)
    assert replaced(a, b, scale_a, scale_b, out, torch.ones(48)).shape == (1,)  # with a bias: as it was
