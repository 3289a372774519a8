"""How engines say that a request is longer than the model's context: recorded from each of them."""

import json
from pathlib import Path

import pytest

from gateway.api.envelope import worker_error
from pipelines.engines.base import is_too_long

TRANSCRIPTS = Path(__file__).parents[1] / "contract" / "transcripts"


def _refusals(name):
    """Messages and codes of every recorded 400, in whichever form."""
    exchanges = json.loads((TRANSCRIPTS / f"{name}.json").read_text())["exchanges"]
    for exchange in exchanges:
        response = exchange["response"]
        if response["status"] == 400:
            error = worker_error(json.dumps(response.get("body")).encode())
            if error is not None:
                yield error


@pytest.mark.parametrize("name", ["unified", "clients", "pooling", "sglang"])
def test_the_recorded_refusals_for_length_are_told_from_all_others(name):
    refusals = list(_refusals(name))
    too_long = [error for error in refusals if is_too_long(400, error.message, error.code)]
    by_hand = [error for error in refusals if "maximum context" in error.message]
    lengths = [error for error in refusals if "max_model_len" in error.message]
    assert too_long == [error for error in refusals if error in by_hand + lengths]
    assert by_hand


@pytest.mark.parametrize(
    ("message", "code", "expected"),
    [
        ("The input (9 tokens) is longer than the model's context length (8 tokens).", 400, True),
        ("max_tokens=9 cannot be greater than max_model_len=8.", None, True),
        ("Too long.", "context_length_exceeded", True),
        ("The prompt is not text.", 400, False),
        ("The context is empty.", None, False),
    ],
)
def test_what_counts_as_too_long(message, code, expected):
    assert is_too_long(400, message, code) is expected
    assert not is_too_long(500, message, code)
