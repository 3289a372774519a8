"""The emulator answers what the real engine was recorded to answer: same statuses, same shapes."""

import json
from pathlib import Path

import pytest
from emulator_process import TOKEN, emulator_process
from record_transcripts import PAIR, UNIFIED, Recorder, without

from pipelines.engines.emulator import EmulatorEngine
from registry.spec import Role

TRANSCRIPTS = Path(__file__).parent / "transcripts"

# What may differ from the recording, and why. All else is held: status, content type, every key,
# every value's kind, the number and order of events, finish reasons, error types and parameters.
#
# Values that only name or say something:
ANY_TEXT = {"message", "content", "text", "id", "model", "root", "system_fingerprint"}
# The emulator's answers end by themselves only where no limit is given; how long they are differs.
ENDS_BY_ITSELF = {"chat to its end", "chat streamed to its end", "chat continued"}
# pydantic names the place of a mistake more closely than the emulator.
PLACE_MAY_DIFFER = "Bad Request"
# Where prompts are long, a KV block list is a few numbers more or less.
NUMBER_LISTS = {"remote_block_ids"}


def recorded(name: str) -> dict[str, dict]:
    text = (TRANSCRIPTS / f"{name}.json").read_text("utf-8")
    return {exchange["name"]: exchange for exchange in json.loads(text)["exchanges"]}


def replay(cases: list[dict], urls: dict[str, str]) -> dict[str, dict]:
    recorder = Recorder(urls, TOKEN, metrics_delay_s=0)
    try:
        return {case["name"]: recorder.record(unlimited(case)) for case in cases}
    finally:
        recorder.close()


def unlimited(case: dict) -> dict:
    if case["name"] not in ENDS_BY_ITSELF:
        return case
    return {**case, "body": without(case["body"], "max_tokens")}


@pytest.fixture(scope="module")
def unified_answers() -> dict[str, dict]:
    with emulator_process() as (url, _):
        return replay(UNIFIED, {"unified": url})


@pytest.fixture(scope="module")
def pair_answers() -> dict[str, dict]:
    with emulator_process(Role.PREFILL) as (prefill, _), emulator_process(Role.DECODE) as (url, _):
        return replay(PAIR, {"prefill": prefill, "decode": url})


def shape(value: object, name: str = "") -> object:
    """A value without what may differ."""
    if isinstance(value, dict):
        place = {"param"} if value.get("type") == PLACE_MAY_DIFFER else set()
        return {key: "any" if key in place else shape(item, key) for key, item in value.items()}
    if name in NUMBER_LISTS:
        return [["numbers"]]
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value if name in ("code", "index") else "number"
    return "text" if name in ANY_TEXT else value


def answer_shape(exchange: dict) -> dict:
    answer = exchange["response"]
    held = {name: answer[name] for name in ("status", "content_type")}
    if "body" in answer:
        held["body"] = shape(answer["body"])
    if "events" in answer:
        held["events"] = [shape(event) for event in answer["events"]]
        if exchange["name"] in ENDS_BY_ITSELF:
            held["events"] = without_repeats(held["events"])
    return held


def without_repeats(items: list) -> list:
    return [item for index, item in enumerate(items) if index == 0 or item != items[index - 1]]


@pytest.mark.parametrize("name", [case["name"] for case in UNIFIED])
def test_it_answers_in_the_shape_of_the_recording(name, unified_answers):
    assert answer_shape(unified_answers[name]) == answer_shape(recorded("unified")[name])


@pytest.mark.parametrize("name", [case["name"] for case in PAIR])
def test_a_pair_answers_in_the_shape_of_the_recording(name, pair_answers):
    assert answer_shape(pair_answers[name]) == answer_shape(recorded("pair")[name])


def test_every_recorded_exchange_is_replayed():
    assert set(recorded("unified")) == {case["name"] for case in UNIFIED}
    assert set(recorded("pair")) == {case["name"] for case in PAIR}


def families(text: str) -> set[str]:
    return {line for line in text.splitlines() if line.startswith("# TYPE ")}


def labels(text: str) -> dict[str, set[str]]:
    """Metric name → the names of its labels."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, rest = line.partition("{")
            pairs = rest.partition("}")[0].split(",")
            found[name] = {pair.partition("=")[0] for pair in pairs}
    return found


@pytest.mark.parametrize("name", ["unified", "pair"])
def test_its_metrics_are_some_of_the_real_ones(name, unified_answers, pair_answers):
    answers = unified_answers if name == "unified" else pair_answers
    for exchange in recorded(name).values():
        if exchange["path"] != "/metrics":
            continue
        real = exchange["response"]["text"]
        own = answers[exchange["name"]]["response"]["text"]
        assert families(own) <= families(real)
        assert labels(own).items() <= labels(real).items()


def test_the_transfers_of_a_pair_are_counted_as_the_real_engine_counts_them(pair_answers):
    read = EmulatorEngine().metrics
    for exchanges in (pair_answers, recorded("pair")):
        counts = {
            name: read(exchange["response"]["text"])
            for name, exchange in exchanges.items()
            if exchange["path"] == "/metrics"
        }
        assert counts["decode metrics before"].kv_transfers == 0
        assert counts["decode metrics after"].kv_transfers == 2
        assert counts["decode metrics after"].kv_transfer_failures == 0
        assert counts["prefill metrics after"].kv_transfers == 0
        assert counts["decode metrics after failures"].kv_transfers == 2
        assert counts["decode metrics after failures"].kv_transfer_failures >= 4


def test_decode_answers_like_prefill_alone(pair_answers):
    for exchanges in (pair_answers, recorded("pair")):
        texts = {
            exchanges[name]["response"]["body"]["choices"][0]["text"]
            for name in ("prefill alone", "decode alone", "decode", "decode after failures")
        }
        assert len(texts) == 1
