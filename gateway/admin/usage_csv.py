"""Usage as CSV (RFC 4180): a header, then one line a request."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from gateway.admin.views import iso
from registry.state import NANO
from registry.usage import UsageLine

MEDIA_TYPE = "text/csv; header=present"
COLUMNS = (
    *("opened_at", "closed_at", "request_id", "key_id", "key_name", "model", "variant"),
    *("revision", "mode", "operation", "status", "prompt_tokens", "completion_tokens", "cost"),
)
# With these a spreadsheet takes a cell for a formula, and some of ours are chosen by clients.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_lines(lines: Sequence[UsageLine], key_names: Mapping[str, str]) -> bytes:
    return _text(_row(line, key_names) for line in lines)


def decimal_text(nano: int) -> str:
    """Exact, in units of the currency: ``0.000012300``."""
    whole, rest = divmod(nano, NANO)
    return f"{whole}.{rest:09d}"


def _row(line: UsageLine, key_names: Mapping[str, str]) -> tuple[object, ...]:
    record = line.record
    return (
        iso(record.opened_at),
        iso(record.closed_at),
        _harmless(record.request_id),
        _harmless(record.key_id),
        _harmless(key_names.get(record.key_id, "")),
        _harmless(record.model),
        _harmless(record.variant),
        record.revision,
        record.mode,
        record.operation,
        record.status.value,
        record.prompt_tokens,
        record.completion_tokens,
        decimal_text(record.cost_nano),
    )


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _text(rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


HEADER = _text([COLUMNS])
