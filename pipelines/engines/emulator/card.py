"""What the emulator answers at /v1/models, as vLLM does."""

import msgspec

from pipelines.engines.emulator.options import Options


def models_answer(options: Options) -> bytes:
    permission = {
        "id": "modelperm-emulator",
        "object": "model_permission",
        "created": 0,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    card = {
        "id": options.model,
        "object": "model",
        "created": 0,
        "owned_by": "vllm",
        "root": options.model,
        "parent": None,
        "max_model_len": options.max_model_len,
        "permission": [permission],
    }
    return msgspec.json.encode({"object": "list", "data": [card]})
