"""`modelyard up` with several variants: by weight, sticky, in the shadow, and another model."""

import sqlite3
from collections import Counter

import pytest
from yard import eventually, run_yard

SPEC = """
models:
  - name: emu
    source: file:///nowhere
    routing: {sticky: session}
    fallback: {models: [emu-long], on: [context_length]}
    variants:
      - name: whole
        weight: 50
        engine: emulator
        topology: {type: aggregated, memory: 256MiB, args: {max-model-len: 256}}
      - name: apart
        weight: 50
        engine: emulator
        topology:
          type: disaggregated
          prefill: {memory: 256MiB, args: {max-model-len: 256}}
          decode: {memory: 256MiB, args: {max-model-len: 256}}
      - name: next
        weight: 0
        shadow_percent: 100
        engine: emulator
        topology:
          type: disaggregated
          prefill: {memory: 256MiB, args: {max-model-len: 256}}
          decode: {memory: 256MiB, args: {max-model-len: 256}}
  - name: emu-long
    source: file:///nowhere
    variants:
      - engine: emulator
        topology: {type: aggregated, memory: 256MiB, args: {max-model-len: 8192}}
"""
SESSIONS = [f"s{number}" for number in range(12)]


@pytest.fixture(scope="module")
def yard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variants")
    (folder / "emu.yaml").write_text(SPEC)
    for yard in run_yard(folder / "home", MODELYARD_CPU_SLOTS="8"):
        yard.start(folder / "emu.yaml")
        yard.wait_ready(60)
        yield yard


def complete(yard, session="", prompt="hello there", **more):
    with yard.client() as client:
        return client.post(
            "/v1/completions",
            json={"model": "emu", "prompt": prompt, "max_tokens": 8, **more},
            headers={"x-modelyard-session": session},
        ).raise_for_status()


def rows(yard, query):
    with sqlite3.connect(yard.home / "modelyard.db") as database:
        return database.execute(query).fetchall()


def test_variants_the_shadow_and_the_fallback_and_what_is_told_of_them(yard):
    def way(session):
        return complete(yard, session, stream=True).headers["x-modelyard-variant"]

    ways = {session: way(session) for session in SESSIONS}
    assert set(ways.values()) == {"whole", "apart"}
    assert {session: way(session) for session in SESSIONS} == ways

    answer = complete(yard, prompt="word " * 400)
    assert answer.headers["x-modelyard-model"] == answer.json()["model"] == "emu-long"
    assert answer.headers["x-modelyard-fallback-from"] == "emu"
    labels = {"model": "emu", "fallback": "emu-long", "reason": "context_length"}
    assert yard.metric("modelyard_fallbacks_total", **labels) == 1

    asked = Counter(ways.values())
    shadowed = {"model": "emu", "variant": "next", "outcome": "ok"}
    eventually(
        "copies are over",
        lambda: yard.metric("modelyard_shadow_requests_total", **shadowed) == 2 * len(SESSIONS),
    )
    # What the last slot has is told when the gateway ends.
    assert yard.stop() == 0
    told = {
        (model, variant): (requests, errors, paired)
        for model, variant, *counts in rows(
            yard,
            "SELECT model, variant, sum(requests), sum(errors), sum(paired) FROM traffic"
            " GROUP BY model, variant",
        )
        for requests, errors, paired in [counts]
    }
    assert told["emu-long", "default"] == (1, 0, 0)
    # The long prompt was one variant's, too, which refused it: no error of its workers.
    assert told["emu", "whole"][0] + told["emu", "apart"][0] == 2 * len(SESSIONS) + 1
    assert told["emu", "whole"][1] == told["emu", "apart"][1] == 0
    assert told["emu", "apart"][2] >= 2 * asked["apart"]
    assert told["emu", "next"][0] == told["emu", "next"][2] >= 2 * len(SESSIONS)
    demand = rows(yard, "SELECT model, queued, in_flight, asked_at > 0 FROM demand ORDER BY model")
    assert demand == [("emu", 0, 0, 1), ("emu-long", 0, 0, 1)]
