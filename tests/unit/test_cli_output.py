"""How the CLI writes times, sizes and untrusted text."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.cli.api import path
from registry.cli.command import Duration
from registry.cli.exits import MissingError, clean, clean_log
from registry.cli.fleet import _pieces
from registry.cli.output import size, span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1m0s"),
        (190, "3m10s"),
        (3599, "59m"),
        (3600, "1h0m"),
        (86_399, "23h59m"),
        (86_400 * 2 + 3600, "2d1h"),
        (86_400 * 30 - 0.01, "30d"),
    ],
)
def test_spans(seconds: float, text: str):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (6 * 2**30, "6.0 GiB"),
        (80 * 2**30, "80.0 GiB"),
        (141 * 2**30, "141 GiB"),
        (2**60, "1048576 TiB"),
    ],
)
def test_sizes(count: int, text: str):
    assert size(count) == text


@given(st.text())
def test_clean_text_cannot_steer_a_terminal(text: str):
    cleaned = clean(text)
    assert len(cleaned) == len(text)
    assert all(character.isprintable() or character in "\n\t" for character in cleaned)


def test_a_log_keeps_its_colours_and_nothing_else_that_steers():
    assert clean_log("\x1b[1;36m(Engine)\x1b[0;0m\r ok\n") == "\x1b[1;36m(Engine)\x1b[0;0m\r ok\n"
    assert "\x1b" not in clean_log("\x1b]0;title\x07 \x1b[2J \x1bc \x1b[31")
    assert "\x9b" not in clean_log("\x9b31m")


@given(st.text(), st.lists(st.integers(1, 5)), st.booleans())
def test_a_log_is_the_same_however_its_bytes_arrive(text: str, sizes: list[int], lines: bool):
    whole = text.encode("utf-8", "replace")
    chunks, rest = [], whole
    for length in sizes:
        chunks, rest = [*chunks, rest[:length]], rest[length:]
    shown = "".join(_pieces(iter([*chunks, rest]), whole_lines=lines))
    expected = whole.decode()
    assert shown == (clean_log(expected) if lines else expected)


@given(st.text(min_size=1))
def test_a_name_in_a_path_stays_one_segment(name: str):
    try:
        made = path("models", name, "scale")
    except (MissingError, UnicodeEncodeError):
        return
    assert made.isascii()
    assert made.count("/") == 3
    assert not set("?#\\ ") & set(made)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("45m", 2700),
        ("12h", 43_200),
        ("30d", 2_592_000),
        ("2w", 1_209_600),
    ],
)
def test_durations(text: str, seconds: int):
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1s", "1.5h", "1y", "d", "1 h", "9" * 30])
def test_what_is_no_duration_is_a_usage_error(text: str):
    with pytest.raises(click.BadParameter, match="allowed"):
        Duration().convert(text, None, None)
