"""The CLI against a real admin API on a loopback port: what it prints and how it exits."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from admin_world import ADMIN_SECRET, INFERENCE_SECRET, World, served
from click.testing import CliRunner, Result

from registry.cli.access import PRIORITIES
from registry.cli.main import cli
from registry.state import Priority

NEW_MODEL = """
name: fresh
source: hf://org/fresh
variants:
- {engine: emulator, topology: {type: aggregated}}
"""


class Cli:
    def __init__(self, url: str, home: Path) -> None:
        self.env = {
            "MODELYARD_ADMIN_URL": url,
            "MODELYARD_ADMIN_TOKEN": ADMIN_SECRET,
            "MODELYARD_HOME": str(home),
            "COLUMNS": "80",
        }

    def __call__(self, *words: str, stdin: str | None = None, **env: str) -> Result:
        result = CliRunner().invoke(cli, list(words), input=stdin, env=self.env | env)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        assert "Traceback" not in result.output
        assert "\x1b" not in result.output, "colours belong on terminals"
        assert ADMIN_SECRET not in result.output
        return result


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory):
    with served(tmp_path_factory.mktemp("cli")) as made:
        yield made


@pytest.fixture
def reads(shared: World, tmp_path: Path) -> Cli:
    return Cli(shared.url, tmp_path)


@pytest.fixture
def writes(tmp_path: Path):
    with served(tmp_path) as made:
        yield Cli(made.url, tmp_path)


@pytest.mark.parametrize("what", ["models", "workers", "nodes", "keys", "audit"])
def test_lists_are_the_apis_json_or_yaml_or_a_table(reads: Cli, shared: World, what: str):
    raw = httpx.get(
        f"{shared.url}/admin/v1/{what}", headers={"authorization": f"Bearer {ADMIN_SECRET}"}
    ).json()
    for item in raw["items"]:
        item.pop("age_s", None)
    parsed = [
        json.loads(reads("get", what, "-o", "json").stdout),
        yaml.safe_load(reads("get", what, "-o", "yaml").stdout),
    ]
    for data in parsed:
        for item in data["items"]:
            item.pop("age_s", None)
        assert data == raw
    table = reads("get", what).stdout
    assert table.splitlines()[0].isupper()
    assert len(table.splitlines()) > len(raw["items"])


def test_a_table_shows_ids_whole_even_where_they_do_not_fit(reads: Cli):
    items = json.loads(reads("get", "workers", "-o", "json").stdout)["items"]
    table = reads("get", "workers", COLUMNS="20").stdout
    assert all(item["id"] in table for item in items)
    assert not any(line.endswith(" ") for line in table.splitlines())


def test_singular_is_understood(reads: Cli):
    assert reads("get", "node").stdout.startswith("NODE")


def test_describe_draws_the_pair_and_its_transfers(reads: Cli):
    page = reads("describe", "model", "smollm2-pd").stdout
    order = ["prefill  1/1 ready", "▼ KV over nixl  12 transfers, 0 failed", "decode  1/2 ready"]
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert "loading weights" in page
    assert "placed" in page
    data = json.loads(reads("describe", "model", "smollm2-pd", "-o", "json").stdout)
    assert data["variants"][0]["kv_transfers"] == 12


def test_describe_worker_and_its_log(reads: Cli):
    worker = json.loads(reads("get", "workers", "-o", "json").stdout)["items"][0]["id"]
    page = reads("describe", "worker", worker).stdout
    assert "127.0.0.1:9000" in page
    assert "3,456 prompt" in page
    assert reads("logs", worker, "--tail", "1").stdout == f"{worker} says 2\n"
    assert reads("get", "workers", "--model", "canary").stderr == "no workers\n"


def test_events(reads: Cli):
    table = reads("events", "--model", "canary").stdout
    assert "model-condition" in table
    newest = json.loads(reads("events", "--limit", "1", "-o", "json").stdout)
    assert len(newest["items"]) == 1
    after = reads("events", "--after", str(newest["last_id"]))
    assert (after.stdout, after.stderr) == ("", "no events\n")


def test_apply_says_what_it_did(writes: Cli, tmp_path: Path):
    file = tmp_path / "fresh.yaml"
    file.write_text(NEW_MODEL)
    dry = writes("apply", "-f", str(file), "--dry-run")
    assert dry.stdout.splitlines()[0] == "model/fresh would be created"
    assert writes("apply", "-f", str(file)).stdout == "model/fresh created (revision 1)\n"
    assert writes("apply", "-f", "-", stdin=NEW_MODEL).stdout == (
        "model/fresh unchanged (revision 1)\n"
    )
    changed = NEW_MODEL.replace("org/fresh", "org/other")
    stale = writes("apply", "-f", "-", "--if-match", "7", stdin=changed)
    assert stale.exit_code == 5
    assert writes("apply", "-f", "-", "--if-match", "1", stdin=changed).stdout == (
        "model/fresh changed (revision 2)\n"
    )
    revisions = writes("history", "fresh", "-o", "yaml").stdout
    assert [item["spec"]["source"] for item in yaml.safe_load(revisions)["items"]] == [
        "hf://org/fresh",
        "hf://org/other",
    ]


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_apply_does_not_warn_of_a_fallback_that_comes_later_in_its_file(writes: Cli, words):
    later = NEW_MODEL.replace("name: fresh", "name: later")
    both = f"{NEW_MODEL}fallback: {{models: [later]}}\n---\n{later}fallback: {{models: [never]}}\n"
    done = writes("apply", "-f", "-", *words, stdin=both)
    assert done.exit_code == 0
    assert "'later'" not in done.stderr
    assert "warning: fallback.models names 'never'" in done.stderr


def test_apply_warns_of_a_gate_that_watches_nothing(writes: Cli):
    done = writes("apply", "-f", "-", stdin=NEW_MODEL + "rollout: {gate: {}}\n")
    assert "warning: rollout.gate watches nothing" in done.stderr


def test_apply_and_describe_warn_of_a_fallback_that_is_not_there(writes: Cli):
    done = writes("apply", "-f", "-", stdin=NEW_MODEL + "fallback: {models: [later]}\n")
    assert done.exit_code == 0
    assert "warning: fallback.models names 'later'" in done.stderr
    assert "warning" not in done.stdout
    page = " ".join(writes("describe", "model", "fresh").stdout.split())
    assert "Warning fallback.models names 'later'" in page


def test_scale_and_delete(writes: Cli):
    assert writes("scale", "smollm2-pd", "--decode", "3").stdout == (
        "model/smollm2-pd changed (revision 2)\n"
    )
    refused = writes("scale", "smollm2-pd", "--workers", "3")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: workers: ")
    assert writes("scale", "canary", "--variant", "new", "--workers", "2").exit_code == 0
    assert writes("delete", "model", "canary").exit_code == 0
    assert writes("delete", "model", "canary").exit_code == 4


def test_wait_ends_when_ready_or_when_its_time_is_over(writes: Cli):
    ready = "models: [{name: smollm2, source: 'hf://org/smollm2', variants: [{engine: vllm, "
    ready += "topology: {type: aggregated, memory: 4GiB}}]}]"
    done = writes("apply", "-f", "-", "--wait", stdin=ready)
    assert (done.exit_code, done.stderr) == (0, "smollm2: ready, unified 1/1\n")
    late = writes("apply", "-f", "-", "--wait", "--timeout", "1s", stdin=NEW_MODEL)
    assert late.exit_code == 6
    assert "not ready after 1s: fresh is unavailable, unified 0/1" in late.stderr


def test_a_new_keys_secret_is_alone_on_stdout_and_works(writes: Cli):
    made = writes("keys", "create", "ops", "--admin", "--expires", "30d")
    secret = made.stdout.strip()
    assert secret.startswith("mka-")
    assert "expires in 30d" in made.stderr
    items = json.loads(writes("get", "keys", "-o", "json").stdout)["items"]
    key_id = next(item["id"] for item in items if item["name"] == "ops")
    assert writes("get", "models", MODELYARD_ADMIN_TOKEN=secret).exit_code == 0
    assert writes("keys", "revoke", key_id).stdout == f"key/{key_id} (ops) revoked\n"
    refused = writes("get", "models", MODELYARD_ADMIN_TOKEN=secret)
    assert (refused.exit_code, secret in refused.output) == (1, False)
    limited = writes("keys", "create", "app", "--model", "a", "--model", "b", "-o", "json")
    assert json.loads(limited.stdout)["key"]["models"] == ["a", "b"]


def test_a_key_has_a_priority_and_it_is_listed(writes: Cli):
    for priority in PRIORITIES:
        made = writes("keys", "create", f"{priority}-app", "--priority", priority, "-o", "json")
        assert json.loads(made.stdout)["key"]["priority"] == priority
    plain = writes("keys", "create", "app", "-o", "json")
    assert json.loads(plain.stdout)["key"]["priority"] == "normal"
    (line,) = (line for line in writes("get", "keys").stdout.splitlines() if "low-app" in line)
    assert "inference  low " in line


def test_the_command_knows_every_priority():
    assert set(PRIORITIES) == set(Priority)


def test_cordon(writes: Cli):
    assert writes("cordon", "local").stdout == "node/local is cordoned\n"
    assert writes("uncordon", "local").stdout == "node/local is ready\n"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["describe", "model", "none"], 4, "no model named 'none'"),
        (["describe", "model", "../../healthz"], 4, "nothing at this path"),
        (["describe", "model", ".."], 4, "nothing is named '..'"),
        (["describe", "model", "a?b#c"], 4, "no model named 'a?b#c'"),
        (["describe", "worker", "none"], 4, "no worker named"),
        (["logs", "none"], 4, "no worker named"),
        (["history", "none"], 4, "no model named"),
        (["rollback", "none"], 4, "no model named"),
        (["delete", "model", "none", "--yes"], 4, "no model named"),
        (["scale", "none", "--workers", "2"], 4, "no model named"),
        (["cordon", "none"], 4, "no node named"),
        (["keys", "revoke", "none"], 4, "no key named"),
        (["keys", "create", "k", "--model", "../m"], 1, "models[0]: "),
        (["scale", "smollm2", "--workers", "0"], 1, "workers: is 0"),
        (["scale", "canary", "--workers", "2"], 1, "variant: 'canary' has several"),
        (["scale", "smollm2"], 2, "say what to scale"),
        (["keys", "create", "k", "--expires", "soon"], 2, "as in 90s"),
        (["keys", "create", "k", "--priority", "urgent"], 2, "'high', 'normal', 'low'"),
        (["keys", "create", "k", "--admin", "--priority", "low"], 1, "priority: an admin key's"),
        (["apply", "-f", "/nowhere.yaml"], 2, "/nowhere.yaml"),
        (["apply"], 2, "--file"),
        (["get", "models", "-o", "xml"], 2, "xml"),
        (["logs", "x", "--tail", "-1"], 2, "--tail"),
        (["get", "pods"], 2, "No such command"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_exit_codes(reads: Cli, words: list[str], code: int, message: str):
    result = reads(*words)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""
    if code not in (0, 2):
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "declares no model"),
        ("{", "not valid YAML"),
        ("name: a/b", "variants"),
        (NEW_MODEL.replace("aggregated", "aggregated, workers: 0"), "topology.workers: is 0"),
        (NEW_MODEL + "\x00", "YAML"),
        ("a: &a [*a]", ""),
    ],
)
def test_a_bad_file_is_refused_in_one_line_before_anything_is_sent(
    reads: Cli, text: str, message: str
):
    result = reads("apply", "-f", "-", stdin=text, MODELYARD_ADMIN_URL="http://127.0.0.1:1")
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_no_gateway_is_exit_code_3_and_says_what_to_start(reads: Cli):
    for words in (["get", "models"], ["logs", "w", "-f"], ["events", "-f"]):
        result = reads(*words, "--admin-url", "http://127.0.0.1:1")
        assert result.exit_code == 3
        assert "modelyard up" in result.stderr


def test_a_bad_address_is_refused(reads: Cli):
    for url in ("nowhere", "ftp://h/", "http://[", "http://h:99999"):
        result = reads("get", "models", "--admin-url", url)
        assert result.exit_code in (1, 3), url
        assert result.stderr.count("\n") == 1


def test_an_inference_key_is_refused(reads: Cli):
    result = reads("get", "models", MODELYARD_ADMIN_TOKEN=INFERENCE_SECRET)
    assert result.exit_code == 1
    assert "does not open the admin API" in result.stderr


def test_another_server_is_recognised(reads: Cli, shared: World):
    result = reads("get", "models", "--admin-url", shared.url + "/schema")
    assert result.exit_code in (1, 4)
    assert result.stderr.count("\n") == 1


def test_the_credential_comes_from_home_if_it_is_private(reads: Cli, tmp_path: Path):
    nothing = reads("get", "models", MODELYARD_ADMIN_TOKEN="")
    assert (nothing.exit_code, "modelyard up" in nothing.stderr) == (3, True)
    file = tmp_path / "admin.token"
    file.write_text(ADMIN_SECRET + "\n")
    file.chmod(0o600)
    assert reads("get", "models", MODELYARD_ADMIN_TOKEN="").exit_code == 0
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        refused = reads("get", "models", MODELYARD_ADMIN_TOKEN="")
        assert (refused.exit_code, "chmod 600" in refused.stderr) == (1, True)
    file.chmod(0o600)
    file.write_text("")
    assert reads("get", "models", MODELYARD_ADMIN_TOKEN="").exit_code == 1


def test_a_bad_setting_is_a_usage_error_that_names_the_variable(reads: Cli):
    result = reads("get", "models", MODELYARD_PORT="many")
    assert (result.exit_code, "MODELYARD_PORT" in result.stderr) == (2, True)


@pytest.mark.parametrize("words", [["events", "-f"], ["logs", "-f"]])
def test_ctrl_c_ends_a_followed_stream_quietly(reads: Cli, words: list[str]):
    if words[0] == "logs":
        items = json.loads(reads("get", "workers", "-o", "json").stdout)["items"]
        words = [*words, items[0]["id"]]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "registry.cli.main", *words],
        env=os.environ | reads.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert stderr.strip() == b""


def test_names_are_completed_from_the_gateway(reads: Cli):
    result = reads(
        _MODELYARD_COMPLETE="bash_complete",
        COMP_WORDS="modelyard describe model smo",
        COMP_CWORD="3",
    )
    assert [line.split(",")[-1] for line in result.stdout.split()] == ["smollm2", "smollm2-pd"]
    away = reads(
        _MODELYARD_COMPLETE="bash_complete",
        COMP_WORDS="modelyard logs x",
        COMP_CWORD="2",
        MODELYARD_ADMIN_URL="http://127.0.0.1:1",
    )
    assert (away.exit_code, away.stdout.strip()) == (0, "")
