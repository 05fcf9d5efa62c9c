"""What the pipeline adds to the workers of vLLM, which import this module before they load a model."""

from __future__ import annotations

from pipeline.engines.vllm import fp8_products
from pipeline.engines.vllm.packed_images import PackedImages

_VLLMS_PRODUCTS = fp8_products.install()  # here, since a model that is loaded was traced with what was there


class WorkerAdditions(PackedImages):
    """What the worker of every GPU can be asked for besides."""

    def multiply_through_torch(self) -> str | None:
        """Return why FP8 products of long steps are vLLM's, or None where torch's are tried."""
        return _VLLMS_PRODUCTS
