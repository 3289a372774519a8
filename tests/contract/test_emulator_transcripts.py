"""The emulator answers what the real engine was recorded to answer: same statuses, same shapes."""

import json
from pathlib import Path

import pytest
from client_cases import EMBEDDER, without
from emulator_process import TOKEN, emulator_process
from record_transcripts import SETS, Recorder

from pipelines.engines.emulator import EmulatorEngine
from registry.spec import Role, Task

# The recorded embedder's.
MINILM = {"max-model-len": 256}
TRANSCRIPTS = Path(__file__).parent / "transcripts"

# What may differ from the recording, and why. All else is held: status, content type, every key,
# every value's kind, the number and order of events, finish reasons, error types and parameters.
#
# Values that only name or say something:
ANY_TEXT = {
    *("message", "content", "text", "id", "model", "root", "system_fingerprint"),
    *("delta", "item_id", "call_id", "token", "prompt", "arguments", "partial_json"),
}
# The emulator's answers end by themselves only where no limit is given; how long they are differs.
ENDS_BY_ITSELF = {"chat to its end", "chat streamed to its end", "chat continued"}
# What is held to a schema is the same JSON with other white space.
HELD_TO_JSON = ("tool", "schema")
# pydantic names the place of a mistake more closely than the emulator.
PLACE_MAY_DIFFER = "Bad Request"
# Where texts are other ones, these are a few items more or less.
LISTS = {"remote_block_ids", "bytes", "text_offset", "token_logprobs", "tokens"}


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
def answers() -> dict[str, dict[str, dict]]:
    """What the emulator answers, by set and by the name of the exchange."""
    with (
        emulator_process() as (unified, _),
        emulator_process(model=EMBEDDER, task=Task.EMBED, **MINILM) as (embedder, _),
        emulator_process(Role.PREFILL) as (prefill, _),
        emulator_process(Role.DECODE) as (decode, _),
    ):
        urls = {"unified": unified, "prefill": prefill, "decode": decode}
        return {
            name: replay(cases, {**urls, "unified": embedder} if name == "pooling" else urls)
            for name, (cases, _) in SETS.items()
        }


@pytest.fixture(scope="module")
def unified_answers(answers) -> dict[str, dict]:
    return answers["unified"]


@pytest.fixture(scope="module")
def pair_answers(answers) -> dict[str, dict]:
    return answers["pair"]


def shape(value: object, name: str = "") -> object:
    """A value without what may differ."""
    if isinstance(value, dict):
        return shape_of_object(value)
    if isinstance(value, list):
        return shape_of_list(value, name)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return value if name in ("code", "index") and isinstance(value, int) else "number"
    return "text" if name in ANY_TEXT else value


def shape_of_object(value: dict) -> dict:
    if "relevance_score" in value:  # which document is first depends on the model
        value = {**value, "index": 0.0}
    place = {"param"} if value.get("type") == PLACE_MAY_DIFFER else set()
    return {key: "any" if key in place else shape(item, key) for key, item in value.items()}


def shape_of_list(value: list, name: str) -> object:
    if name in LISTS:
        return "list"
    if name == "top_logprobs" and value and "token" not in value[0]:
        return [len(by_token) for by_token in value]
    return [shape(item) for item in value]


def answer_shape(exchange: dict) -> dict:
    answer = exchange["response"]
    held = {name: answer[name] for name in ("status", "content_type")}
    if "body" in answer:
        held["body"] = shape(answer["body"])
    held["cut_off"] = answer.get("cut_off", False)
    if "events" in answer:
        held["events"] = [event_shape(event) for event in answer["events"]]
        name = exchange["name"]
        if name in ENDS_BY_ITSELF or any(word in name for word in HELD_TO_JSON):
            held["events"] = without_repeats(held["events"])
    return held


def event_shape(event: object) -> object:
    if not isinstance(event, str) or event == "[DONE]":
        return shape(event)
    name, data = named(event)
    return [name, shape(data)]


def named(event: str) -> tuple[str, dict]:
    """The name and the data of an event that has a name."""
    line, _, data = event.partition("\ndata: ")
    return line.removeprefix("event: "), json.loads(data)


def without_repeats(items: list) -> list:
    return [item for index, item in enumerate(items) if index == 0 or item != items[index - 1]]


@pytest.mark.parametrize(
    ("name", "exchange"),
    [(name, case["name"]) for name, (cases, _) in SETS.items() for case in cases],
)
def test_it_answers_in_the_shape_of_the_recording(name, exchange, answers):
    assert answer_shape(answers[name][exchange]) == answer_shape(recorded(name)[exchange])


@pytest.mark.parametrize("name", SETS)
def test_every_recorded_exchange_is_replayed(name):
    assert set(recorded(name)) == {case["name"] for case in SETS[name][0]}


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
        told = labels(real)
        for metric, names in labels(own).items():
            # An info's labels are its values, of which other versions have others.
            assert names == told[metric] or (metric.endswith("_info") and names <= told[metric])


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


def said(exchange: dict) -> str:
    """The text of a responses or messages answer, streamed or not."""
    answer = exchange["response"]
    if "body" in answer:
        body = answer["body"]
        return (body["output"][0] if "output" in body else body)["content"][0]["text"]
    deltas = [
        data["delta"] for name, data in map(named, answer["events"]) if name.endswith("delta")
    ]
    texts = [each if isinstance(each, str) else each.get("text", "") for each in deltas]
    return "".join(texts)


@pytest.mark.parametrize("dialect", ["responses", "messages"])
def test_a_pair_says_in_every_dialect_what_one_worker_says(dialect, answers):
    for exchanges in (answers["pair_clients"], recorded("pair_clients")):
        names = (f"{dialect} alone", f"decode {dialect}", f"decode {dialect}, streamed")
        assert len({said(exchanges[name]) for name in names}) == 1
        before, after = (
            EmulatorEngine().metrics(exchanges[f"decode metrics {when}"]["response"]["text"])
            for when in ("before", "after")
        )
        assert after.kv_transfers - before.kv_transfers == 4


def test_decode_answers_like_prefill_alone(pair_answers):
    for exchanges in (pair_answers, recorded("pair")):
        texts = {
            exchanges[name]["response"]["body"]["choices"][0]["text"]
            for name in ("prefill alone", "decode alone", "decode", "decode after failures")
        }
        assert len(texts) == 1
