"""Stands in for sgl-kernel, whose CPU build no package index carries: only built from source.

A Llama-like model under ``--device cpu --attention-backend torch_native --sampling-backend
pytorch`` calls one function of it, and imports many more. Those raise when they are called, so
that a model that needs them (MoE, quantized, speculative) fails with their name.
"""

from collections.abc import Callable
from typing import Any, NoReturn

from torch import Tensor


def assign_req_to_token_pool_cpu(  # noqa: PLR0917 - as it is called
    req_pool_indices: Tensor,
    req_to_token: Tensor,
    start: Tensor,
    end: Tensor,
    out_cache_loc: Tensor,
    pool_len: int,
) -> None:
    """Notes for each request where the KV of its tokens *start* to *end* lies."""
    del pool_len  # a tensor knows its own shape
    taken = 0
    for request, first, last in zip(
        req_pool_indices.tolist(), start.tolist(), end.tolist(), strict=True
    ):
        places = out_cache_loc[taken : taken + last - first]
        req_to_token[request, first:last] = places.to(req_to_token.dtype)
        taken += last - first


def __getattr__(name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(name)

    def missing(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            f"sgl_kernel.{name} is not in the stand-in of the runtime sglang-cpu: "
            "this model needs another engine, or a GPU"
        )

    missing.__name__ = name
    return missing
