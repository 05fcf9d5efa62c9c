"""Measure the FP8 products of Pixtral-Large's layers through the kernels at hand, on one GPU.

python benchmarks/fp8_products.py OUT.json [--tokens 8192 16384] [--shards 1]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

SHAPES = {"qkv": (12288, 14336), "o": (12288, 12288), "gate_up": (12288, 57344), "down": (28672, 12288)}
"""Inputs and outputs of each product."""


def rate(product: Callable[[], object], operations: float, seconds: float = 0.4) -> float:
    """Return TFLOP/s over repetitions that take about `seconds`, after as long a warm-up."""
    product()
    torch.cuda.synchronize()
    begin = time.monotonic()
    product()
    torch.cuda.synchronize()
    times = max(3, int(seconds / (time.monotonic() - begin)))
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for _ in range(times):
        product()
    first.record()
    for _ in range(times):
        product()
    last.record()
    torch.cuda.synchronize()
    return operations * times / first.elapsed_time(last) / 1e9


def measure(tokens: int, inputs: int, outputs: int) -> dict[str, float | str]:
    """Return TFLOP/s of each kernel for one product, on random data."""
    from vllm import _custom_ops as ops

    x = torch.randn(tokens, inputs, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(outputs, inputs, device="cuda", dtype=torch.bfloat16).to(torch.float8_e4m3fn).t()
    a, row = ops.scaled_fp8_quant(x, use_per_token_if_dynamic=True)
    one = torch.ones(1, 1, device="cuda")
    columns = torch.ones(1, outputs, device="cuda")
    bf16 = torch.bfloat16
    ways: dict[str, Callable[[], object]] = {
        "cutlass, scale per token": lambda: ops.cutlass_scaled_mm(a, w, row, one, bf16),
        "cutlass, one scale": lambda: ops.cutlass_scaled_mm(a, w, one, one, bf16),
        "torch, scale per token": lambda: torch._scaled_mm(
            a, w, scale_a=row, scale_b=columns, out_dtype=bf16
        ),
        "torch, one scale": lambda: torch._scaled_mm(
            a, w, scale_a=one.view(()), scale_b=one.view(()), out_dtype=bf16
        ),
        "torch, one scale, fast": lambda: torch._scaled_mm(
            a, w, scale_a=one.view(()), scale_b=one.view(()), out_dtype=bf16, use_fast_accum=True
        ),
        "torch, scale per token, fast": lambda: torch._scaled_mm(
            a, w, scale_a=row, scale_b=columns, out_dtype=bf16, use_fast_accum=True
        ),
    }
    found: dict[str, float | str] = {}
    for name, way in ways.items():
        try:
            found[name] = rate(way, 2 * tokens * inputs * outputs)
        except Exception as error:  # a kernel that does not run here is a finding
            found[name] = f"{type(error).__name__}: {str(error)[:200]}"
    expected = x[:256].float() @ w.float()
    got = ops.cutlass_scaled_mm(a, w, row, one, bf16)[:256].float()
    found["difference of cutlass from float32"] = float((got - expected).norm() / expected.norm())
    found["quantising, GB/s"] = 1e3 * rate(
        lambda: ops.scaled_fp8_quant(x, use_per_token_if_dynamic=True), 3 * tokens * inputs, 0.1
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[8192, 16384])
    parser.add_argument("--shards", type=int, default=1, help="GPUs that share each product")
    given = parser.parse_args()
    results: dict[str, object] = {"gpu": torch.cuda.get_device_name()}
    for tokens in given.tokens:
        for name, (inputs, outputs) in SHAPES.items():
            split_inputs = name in ("o", "down")
            k = inputs // given.shards if split_inputs else inputs
            n = outputs if split_inputs else outputs // given.shards
            found = measure(tokens, k, n)
            results[f"{tokens} {name} {k}x{n}"] = found
            given.out.write_text(json.dumps(results, indent=1))
            print(
                tokens,
                name,
                {key: round(v) if isinstance(v, float) and v > 1 else v for key, v in found.items()},
                flush=True,
            )


if __name__ == "__main__":
    main()
