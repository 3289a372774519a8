"""A whole registry moves: exported from one home, restored into a fresh one, which serves it."""

from pathlib import Path

from yard import eventually, run_yard

SPEC = """
models:
  - name: emu
    source: file:///nowhere
    owner: team
    limits: {queued: 7}
    variants:
      - engine: emulator
        topology: {type: aggregated, memory: 256MiB}
  - name: emu-pd
    source: file:///nowhere
    variants:
      - engine: emulator
        topology: {type: disaggregated, prefill: {memory: 256MiB}, decode: {memory: 256MiB}}
"""
ASKED = {"prompt": "the same words for both homes " * 9, "max_tokens": 8, "temperature": 0}


def answers(yard, secret: str) -> dict[str, str]:
    """What each model says to who has *secret*."""
    with yard.client() as client:
        client.headers["authorization"] = f"Bearer {secret}"
        texts = {}
        for model in ("emu", "emu-pd"):
            asked = {"json": {"model": model, **ASKED}}
            # A new key is known to the gateway with its next look into the registry.
            eventually("the key opens", lambda: client.get("/v1/models").is_success, 10)
            answer = client.post("/v1/completions", **asked)
            assert answer.is_success, answer.text
            texts[model] = answer.json()["choices"][0]["text"]
        return texts


def test_a_fresh_home_restored_from_an_export_serves_the_same(tmp_path: Path):
    spec, whole = tmp_path / "spec.yaml", tmp_path / "whole.yaml"
    spec.write_text(SPEC)
    for first in run_yard(tmp_path / "one" / "home", MODELYARD_CPU_SLOTS="4"):
        first.home.parent.mkdir()
        first.start(spec)
        first.wait_ready(90)
        first.cli("quotas", "set", "team", "--devices", "3")
        secret = first.cli("keys", "create", "app", "--in-flight", "5").stdout.strip()
        said = answers(first, secret)
        first.cli("export", "--with-keys", "-o", str(whole))

    for second in run_yard(tmp_path / "two" / "home", MODELYARD_CPU_SLOTS="4"):
        second.home.parent.mkdir()
        second.start()
        second.wait_ready(90)
        second.cli("restore", "-f", str(whole))
        second.cli("apply", "-f", str(spec), "--wait", "--timeout", "90s")
        assert answers(second, secret) == said
        assert second.cli("export").stdout == whole.read_text().replace(
            _section(whole.read_text(), "keys"), ""
        )
        assert "5 at once" in second.cli("get", "keys").stdout


def _section(text: str, name: str) -> str:
    return next(f"---\n{part}" for part in text.split("---\n") if part.startswith(f"{name}:"))
