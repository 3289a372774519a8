"""`keys` and `usage` against a real admin API: limits, changes, rotation, sums, export."""

import csv
import io
import json

import pytest
from admin_world import INFERENCE_SECRET, served
from test_cli_commands import Cli

from registry.cli.limits import PERIODS, amount_text, limits_text
from registry.cli.usage import BY
from registry.state import BudgetPeriod
from registry.usage import UsageBy


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("cli-keys")
    with served(folder) as made:
        yield Cli(made.url, folder)


def key_of(cli: Cli, name: str) -> dict:
    items = json.loads(cli("get", "keys", "-o", "json").stdout)["items"]
    (found,) = (item for item in items if item["name"] == name)
    return found


def test_the_commands_know_every_period_and_every_way_to_tell_usage_apart():
    assert set(PERIODS) == set(BudgetPeriod)
    assert set(BY) == set(UsageBy)


def test_a_key_is_made_with_limits_and_shows_them(cli: Cli):
    made = cli(
        *("keys", "create", "limited", "--requests-per-minute", "60", "--in-flight", "4"),
        *("--tokens-per-minute", "10000", "--budget", "25.000000001/month"),
    )
    words = "60 requests/min, 10,000 tokens/min, 4 at once, 25/month"
    assert made.stdout.startswith("mk-")
    assert made.stdout.count("\n") == 1
    assert words in made.stderr

    key = key_of(cli, "limited")
    assert key["limits"] == {
        "requests_per_minute": 60,
        "tokens_per_minute": 10_000,
        "in_flight": 4,
        "budget": {"amount": 25.000000001, "period": "month"},
    }
    (line,) = (line for line in cli("get", "keys").stdout.splitlines() if "limited" in line)
    assert f"0 of 25/month  {words}" in line
    page = cli("describe", "key", key["id"]).stdout
    for text in ("limited", "all models", words, "0 of 25/month", "never"):
        assert text in page
    assert json.loads(cli("describe", "key", key["id"], "-o", "json").stdout) == key


def test_an_update_changes_what_it_names_and_none_lifts_a_limit(cli: Cli):
    cli("keys", "create", "changing", "--model", "a", "--in-flight", "4", "--budget", "5/day")
    key = key_of(cli, "changing")
    done = cli("keys", "update", key["id"], "--in-flight", "none", "--requests-per-minute", "9")
    assert done.stdout == f"key/{key['id']} (changing) updated\n"
    limits = key["limits"] | {"in_flight": 0, "requests_per_minute": 9}
    assert key_of(cli, "changing") == key | {"limits": limits}
    words = ["--budget", "none", "--all-models", "--priority", "low", "--expires", "30d"]
    changed = json.loads(cli("keys", "update", key["id"], *words, "-o", "json").stdout)
    assert (changed["limits"]["budget"], changed["models"], changed["priority"]) == (
        None,
        [],
        "low",
    )
    assert changed["expires_at"] is not None
    cli("keys", "update", key["id"], "--never-expires", "--name", "changed", "--model", "b")
    assert (key_of(cli, "changed")["expires_at"], key_of(cli, "changed")["models"]) == (None, ["b"])


def test_a_rotated_keys_new_secret_is_alone_on_stdout_and_both_work_for_the_overlap(cli: Cli):
    first = cli("keys", "create", "ops", "--admin").stdout.strip()
    key = key_of(cli, "ops")
    rotated = cli("keys", "rotate", key["id"], "--overlap", "24h")
    second = rotated.stdout.strip()
    assert second.startswith("mka-")
    assert second != first
    assert "its old secret ends in 24h" in rotated.stderr or "in 1d0h" in rotated.stderr
    for secret in (first, second):
        assert cli("get", "models", MODELYARD_ADMIN_TOKEN=secret).exit_code == 0
    assert "ends in" in cli("describe", "key", key["id"]).stdout
    assert first not in cli("describe", "key", key["id"], "-o", "json").stdout
    third = cli("keys", "rotate", key["id"]).stdout.strip()
    codes = [cli("get", "models", MODELYARD_ADMIN_TOKEN=s).exit_code for s in (first, second)]
    assert codes == [1, 1]
    assert cli("get", "models", MODELYARD_ADMIN_TOKEN=third).exit_code == 0


def test_usage_is_summed_as_asked(cli: Cli):
    table = cli("usage", "--since", "1970-01-01").stdout.splitlines()
    assert table[0].split() == [
        *("KEY", "NAME", "MODEL", "REQUESTS", "ERRORS", "PROMPT", "COMPLETION", "COST")
    ]
    assert table[1].split()[1:] == ["app", "smollm2", "1", "0", "1,200", "34", "0"]
    days = json.loads(cli("usage", "--by", "day", "-o", "json").stdout)["items"]
    assert [(each["day"], each["requests"]) for each in days] == [("1970-01-01", 1)]
    none = cli("usage", "--since", "7d")
    assert (none.stdout, none.stderr) == ("", "no usage in that time\n")
    assert cli("usage", "--model", "smollm2", "--until", "1970-01-02", "--by", "model").stdout
    page = cli("describe", "key", key_of(cli, "app")["id"]).stdout
    assert "Usage of" not in page, "it is older than 30 days"


def test_the_export_is_the_apis_csv(cli: Cli):
    answer = cli("usage", "export", "--since", "1970-01-01T00:00:00Z")
    (row,) = csv.DictReader(io.StringIO(answer.stdout, newline=""))
    assert (row["request_id"], row["key_name"], row["prompt_tokens"]) == ("r1", "app", "1200")
    assert cli("usage", "export", "--key", "none").stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["keys", "create", "k", "--budget", "lots"], 2, "as in 25/month"),
        (["keys", "create", "k", "--budget", "5/week"], 2, "as in 25/month"),
        (["keys", "create", "k", "--budget", "0.0000000001"], 2, "as in 25/month"),
        (["keys", "create", "k", "--budget", "9999999999"], 1, "limits.budget.amount: "),
        (["keys", "create", "k", "--in-flight", "-1"], 2, "a whole number, or none"),
        (["keys", "create", "k", "--admin", "--in-flight", "1"], 1, "limits: an admin key"),
        (["keys", "update", "none", "--name", "n"], 4, "no key named 'none'"),
        (["keys", "update", "none"], 2, "say what to change"),
        (["keys", "update", "x", "--model", "m", "--all-models"], 2, "exclude each other"),
        (["keys", "update", "x", "--expires", "1d", "--never-expires"], 2, "exclude each other"),
        (["keys", "rotate", "none"], 4, "no key named 'none'"),
        (["keys", "rotate", "none", "--overlap", "long"], 2, "as in 90s"),
        (["describe", "key", "none"], 4, "no key named 'none'"),
        (["usage", "--since", "soon"], 2, "as in 7d"),
        (["usage", "--since", "2026-01-01T00:00:00"], 1, "since: "),
        (["usage", "--by", "colour"], 2, "colour"),
        (["usage", "--since", "7d", "export"], 2, "go behind it"),
        (["usage", "--by", "day", "export"], 2, "go behind it"),
        (["usage", "export", "--until", "2026-99-01"], 2, "a day as in"),
    ],
)
def test_exit_codes(cli: Cli, words: list[str], code: int, message: str):
    result = cli(*words)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr
    assert result.stdout == ""


def test_a_revoked_key_is_not_rotated(cli: Cli):
    cli("keys", "create", "gone")
    key = key_of(cli, "gone")
    cli("keys", "revoke", key["id"])
    refused = cli("keys", "rotate", key["id"])
    assert (refused.exit_code, "make another one" in refused.stderr) == (5, True)
    assert INFERENCE_SECRET not in refused.output


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.0, "0"), (25.0, "25"), (1234.5, "1,234.5"), (0.000001, "0.000001"), (1e-9, "0.000000001")],
)
def test_amounts_are_short_and_never_wrongly_nothing(amount: float, text: str):
    assert amount_text(amount) == text


def test_no_limits_are_no_words():
    assert limits_text({"requests_per_minute": 0, "budget": None}) == ""


def test_describe_shows_what_a_model_costs_and_how_much_of_it_there_is(cli: Cli):
    model = """
name: priced
source: hf://org/priced
variants: [{engine: emulator, topology: {type: aggregated}}]
price: {input: 0.15, output: 1200}
limits: {requests_per_minute: 600, in_flight: 32, queued: 7}
"""
    assert cli("apply", "-f", "-", stdin=model).exit_code == 0
    page = cli("describe", "model", "priced").stdout
    assert "0.15 for input, 1,200 for output, per million tokens" in page
    assert "600 requests/min, 32 at once" in page
    assert "Price" not in cli("describe", "model", "smollm2").stdout
