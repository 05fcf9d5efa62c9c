"""FP8 products of long steps through torch's row-wise scaled product, on Hopper GPUs.

vLLM multiplies through CUTLASS, which loses up to a third of its rate at steps of some lengths and takes more
power at all of them. torch's product (cuBLASLt) takes the same operands and scales and adds in the same way.
It is tried on every weight against vLLM's before it is used. docs/gpu-profile.md has the measurements.

vLLM traces its model while it is loaded, so the product is replaced before that: when the module of the
worker's additions is imported.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.dtype], torch.Tensor]
"""[tokens, inputs] in FP8, [inputs, outputs] in FP8, their scales, the type of the result."""

_LONG = 1024
"""Tokens from which a step is long: shorter ones write replies, and wait for memory rather than products."""
_TOLERANCE = 0.01
"""Difference to vLLM's product that is allowed, as a share of its norm: rounding to bf16 makes a fifth."""
_HOPPER = (9, 0)


def install() -> str | None:
    """Replace vLLM's FP8 product in this process; return why not, where it stays."""
    try:
        from vllm import _custom_ops as operations

        original = operations.cutlass_scaled_mm
    except (ImportError, AttributeError) as error:  # not public: another vLLM may have another one
        return f"this vLLM has a way of its own ({error})"
    if hasattr(original, "original"):  # a second engine in the same process
        return None
    product = _operation(TriedProduct(original))

    def cutlass_scaled_mm(
        a: torch.Tensor,
        b: torch.Tensor,
        scale_a: torch.Tensor,
        scale_b: torch.Tensor,
        out_dtype: torch.dtype,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        # Short steps first, and nothing else: the GPU would wait for it, hundreds of times a step.
        traced = torch.compiler.is_compiling()
        if (traced or a.shape[0] >= _LONG) and bias is None and suits(a, b, scale_a, scale_b, out_dtype):
            return product(a, b, scale_a, scale_b, out_dtype)
        result: torch.Tensor = original(a, b, scale_a, scale_b, out_dtype, bias)
        return result

    cutlass_scaled_mm.original = original  # type: ignore[attr-defined]
    operations.cutlass_scaled_mm = cutlass_scaled_mm
    return None


def suits(
    a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype
) -> bool:
    """Return whether torch's product takes these operands: one scale per token, one or one per output."""
    return (
        a.dtype == torch.float8_e4m3fn
        and out == torch.bfloat16
        and a.dim() == 2
        and scale_a.dim() == 2
        and scale_a.shape[1] == 1
        and scale_b.numel() in (1, b.shape[1])
        and b.shape[0] % 16 == b.shape[1] % 16 == 0
    )


def torch_product(
    a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype
) -> torch.Tensor:
    """Return torch's product. `use_fast_accum` adds as vLLM's kernels for Hopper do."""
    columns = scale_b.view(1, -1).expand(1, b.shape[1]).contiguous()
    return torch._scaled_mm(a, b, scale_a=scale_a, scale_b=columns, out_dtype=out, use_fast_accum=True)


class TriedProduct:
    """torch's product for long steps and weights with which it comes to vLLM's values; else vLLM's."""

    def __init__(self, original: Product, faster: Product = torch_product, long: int = _LONG) -> None:
        self._original, self._faster, self._long = original, faster, long
        self._agrees: dict[tuple[int, int], bool] = {}
        """By inputs and outputs of a weight."""

    def __call__(
        self, a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype
    ) -> torch.Tensor:
        if a.shape[0] < self._long or not self._tried(b, scale_b, out):
            return self._original(a, b, scale_a, scale_b, out)
        return self._faster(a, b, scale_a, scale_b, out)

    def _tried(self, b: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype) -> bool:
        shape = (b.shape[0], b.shape[1])
        if shape not in self._agrees:
            if b.is_cuda and torch.cuda.is_current_stream_capturing():  # nothing may be read back then
                return False
            self._agrees[shape] = self._try(b, scale_b, out)
        return self._agrees[shape]

    def _try(self, b: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype) -> bool:
        generator = torch.Generator(device=b.device).manual_seed(0)
        # The tokens of a profiling step are zeros, which any product multiplies rightly.
        a = torch.randn(self._long, b.shape[0], device=b.device, generator=generator).to(b.dtype)
        scale_a = torch.rand(self._long, 1, device=b.device, generator=generator) + 0.5
        if b.is_cuda and torch.cuda.get_device_capability(b.device) != _HOPPER:
            return False
        try:
            far = difference(*(p(a, b, scale_a, scale_b, out) for p in (self._faster, self._original)))
        except RuntimeError as error:  # no kernel for this GPU or these shapes
            print(f"FP8 products of {tuple(b.shape)} stay vLLM's: {error}", flush=True)
            return False
        agrees = far <= _TOLERANCE
        way = "torch's" if agrees else "vLLM's"
        print(f"FP8 products of {tuple(b.shape)} are {way}: they differ by {far:.4f}", flush=True)
        return agrees


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return how far two tensors are from each other, as a share of the second one's norm."""
    found, expected = found.float(), expected.float()
    return float((found - expected).norm() / expected.norm())


def _operation(tried: TriedProduct) -> Product:
    """Return the product as one operation: a traced model would forget that it depends on the step."""

    def multiply(
        a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype
    ) -> torch.Tensor:
        return tried(a, b, scale_a, scale_b, out)

    def shape(
        a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype
    ) -> torch.Tensor:
        return torch.empty((a.shape[0], b.shape[1]), dtype=out, device=a.device)

    operation = torch.library.custom_op("docbatch::fp8_product", multiply, mutates_args=())
    operation.register_fake(shape)

    def product(
        a: torch.Tensor, b: torch.Tensor, scale_a: torch.Tensor, scale_b: torch.Tensor, out: torch.dtype
    ) -> torch.Tensor:
        called = operation if torch.compiler.is_compiling() else tried  # calling an operation costs time
        result: torch.Tensor = called(a, b, scale_a, scale_b, out)
        return result

    return product
