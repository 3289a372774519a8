"""An export is read back as it was written, and every mistake in one is named."""

import pytest

from registry import export as exports
from registry.errors import SpecError
from registry.export import Export
from registry.spec import from_data, from_yaml
from registry.state import BudgetPeriod, Key, KeyKind, KeyLimits, Pool, Priority, Quota

SPEC = from_data(
    {
        "name": "m",
        "source": "hf://org/m",
        "pool": "tail",
        "variants": [{"engine": "vllm", "topology": {"type": "aggregated", "memory": "4GiB"}}],
    }
)
KEY = Key(
    id="key_1",
    name="app",
    kind=KeyKind.INFERENCE,
    digest=bytes(range(32)),
    models=("m",),
    priority=Priority.LOW,
    limits=KeyLimits(in_flight=3, budget_nano=5, budget_period=BudgetPeriod.DAY),
    created_at=1.5,
    expires_at=2.5,
    revoked_at=None,
    old_digest=bytes(32),
    old_expires_at=1.75,
)
WHOLE = Export(
    quotas=(Quota(owner="default", devices=8), Quota(owner="t", memory_bytes=2**40 + 1)),
    pools=(Pool(name="tail", overcommit=3.0),),
    keys=(KEY,),
    models=(SPEC,),
)


def test_what_is_written_is_read_back():
    text = exports.write(WHOLE)
    assert exports.read(text) == WHOLE
    assert KEY.digest.hex() in text


def test_models_alone_are_a_file_of_apply_and_the_other_way_round():
    alone = exports.write(Export(models=(SPEC,)))
    assert from_yaml(alone) == (SPEC,)
    assert exports.read(alone) == Export(models=(SPEC,))
    with pytest.raises(SpecError, match="`modelyard restore` takes exports"):
        from_yaml(exports.write(WHOLE))


DIGEST = "ab" * 32
MODEL = "{name: m, source: 'hf://o/m', variants: [{engine: vllm, topology: {type: aggregated}}]}"
KEY_TEXT = f"id: key_1, name: k, kind: inference, digest: {DIGEST}, created_at: 1"


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("", "", "declares nothing"),
        ("quotas: []", "", "declares nothing"),
        ("quotas: []\nnodes: []", "nodes", "allowed are quotas, pools, keys, models"),
        ("quotas: {}", "quotas", "must be a list"),
        ("quotas: [{owner: t, device: 1}]", "quotas[0].device", "is not known here"),
        ("quotas: [{devices: 1}]", "quotas[0].owner", "is missing"),
        ("quotas: [{owner: t}, {owner: t}]", "quotas", "has one twice"),
        ("pools: [{name: p, overcommit: much}]", "pools[0].overcommit", "allowed is a number"),
        ("pools: [5]", "pools[0]", "allowed is a mapping"),
        (f"keys: [{{{KEY_TEXT}, secret: x}}]", "keys[0].secret", "is not known here"),
        (f"keys: [{{{KEY_TEXT}, limits: {{rpm: 1}}}}]", "keys[0].limits.rpm", "is not known here"),
        (f"keys: [{{{KEY_TEXT}}}, {{{KEY_TEXT}}}]", "keys", "has one twice"),
        (
            f"keys: [{{{KEY_TEXT.replace(DIGEST, 'abcd')}}}]",
            "keys[0].digest",
            "allowed are 64 hexadecimal digits",
        ),
        (f"keys: [{{{KEY_TEXT}, old_digest: xyz}}]", "keys[0].old_digest", "a SHA-256"),
        ("quotas: []\nmodels: [{name: m}]", "models[0].variants", "is missing"),
        (f"models: [{MODEL}]\n---\n{MODEL}", "models", "has one twice"),
    ],
)
def test_every_mistake_is_named(text: str, field: str, words: str):
    with pytest.raises(SpecError) as refused:
        exports.read(text)
    assert refused.value.field == field
    assert words in refused.value.message
