"""Rows as each version of the schema had them, for every table: written in plain SQL, so that no
code of today comes between.
"""

import json
from typing import Any

from sqlalchemy import Connection, text

from registry import db, schema

Row = dict[str, Any]
Rows = dict[str, list[Row]]

SPEC = {
    "name": "m",
    "source": "hf://org/m",
    "variants": [{"engine": "emulator", "topology": {"type": "aggregated", "workers": 2}}],
}
PLAN = {
    "model": "m",
    "revision": 2,
    "variant": "default",
    "role": "unified",
    "ordinal": 0,
    "fingerprint": "f",
    "engine": "emulator",
    "runtime": "",
    "source": "hf://org/m",
    "transfer": "",
    "devices": 1,
    "memory_bytes": 0,
    "tensor_parallel": 1,
    "pipeline_parallel": 1,
    "args": {"seed": 1},
}


def _worker(name: str, phase: str, ended_at: float | None) -> Row:
    return {
        "id": name,
        "model": "m",
        "revision": 2,
        "variant": "default",
        "role": "unified",
        "ordinal": 0,
        "fingerprint": "f",
        "plan": json.dumps(PLAN),
        "node": "n",
        "runtime": "builtin",
        "phase": phase,
        "reason": "",
        "url": "http://127.0.0.1:9000",
        "token": "t",
        "created_at": 10.0,
        "ready_at": 11.0,
        "ended_at": ended_at,
    }


def _device(index: int, claimed: int) -> Row:
    return {
        "id": f"n/cpu{index}",
        "node": "n",
        "index": index,
        "kind": "cpu",
        "model": "slot",
        "memory_bytes": 100,
        "claimed_bytes": claimed,
    }


def _event(kind: str) -> Row:
    return {"at": 1.0, "kind": kind, "model": "m", "worker": "", "node": "", "message": kind}


# In an order that holds foreign keys. Serial ids are the database's.
_FIRST: Rows = {
    "models": [
        {
            "name": "m",
            "generation": 3,
            "revision": 2,
            "created_at": 1.0,
            "updated_at": 2.0,
            "deleted": False,
            "condition": "why not",
        }
    ],
    "revisions": [
        {
            "model": "m",
            "number": number,
            "spec": json.dumps(SPEC | {"source": source}),
            "created_at": 1.0,
            "created_by": "key_1",
        }
        for number, source in ((1, "hf://org/old"), (2, "hf://org/m"))
    ],
    "nodes": [
        {
            "name": "n",
            "address": "127.0.0.1",
            "cordoned": True,
            "silent": False,
            "device_kind": "cpu",
            "runtimes": '["builtin"]',
            "labels": '{"zone": "a"}',
            "last_seen_at": 5.0,
        }
    ],
    "devices": [_device(0, 60), _device(1, 0)],
    "workers": [_worker("m-1", "ready", None), _worker("m-0", "failed", 9.0)],
    "claims": [{"worker_id": "m-1", "device_id": "n/cpu0", "memory_bytes": 60}],
    "keys": [
        {
            "id": "key_1",
            "name": "app",
            "kind": "inference",
            "digest": b"d" * 32,
            "models": '["m"]',
            "created_at": 1.0,
            "expires_at": None,
            "revoked_at": None,
        }
    ],
    "usage": [
        {
            "request_id": "r",
            "key_id": "key_1",
            "model": "m",
            "variant": "default",
            "revision": 1,
            "mode": "aggregated",
            "status": "ok",
            "prompt_tokens": 5,
            "completion_tokens": 7,
            "opened_at": 1.0,
            "closed_at": 2.0,
        }
    ],
    "events": [_event("model-applied"), _event("key-created")],
    "audit": [
        {
            "at": 1.0,
            "actor": "key_1",
            "action": "model.apply",
            "object": "m",
            "before_revision": None,
            "after_revision": 1,
            "request_id": "r",
            "client_ip": "127.0.0.1",
        }
    ],
}
# What each version added to the rows of before …
_COLUMNS: dict[str, dict[str, Row]] = {
    "0002": {"keys": {"priority": "low"}, "workers": {"events_url": "ipc:///e"}},
    "0003": {
        "keys": {
            "limits": '{"requests_per_minute": 7, "budget_nano": 5000000000}',
            "old_digest": b"o" * 32,
            "old_expires_at": 99.0,
        },
        "usage": {"operation": "chat", "cost_nano": 12},
    },
    "0004": {"workers": {"kv_port": 7000}},
    "0005": {
        "nodes": {"draining": True, "sources": '["hf://org/m"]'},
        "devices": {"uuid": "GPU-1", "island": "i", "used_bytes": 3, "overuse": "o"},
        "workers": {"departing": False},
    },
    "0006": {"workers": {"sleep_mode": ""}},
    "0007": {"keys": {"role": "admin"}},
    "0008": {"traffic": {"e2e": '{"sum_s": 0.5}'}},
}
# … and the tables it added.
_TABLES: dict[str, Rows] = {
    "0003": {
        "spending": [{"key_id": "key_1", "period": "total", "cost_nano": 12}],
        "events": [_event("key-rotated")],
    },
    "0005": {
        "quotas": [{"owner": "default", "devices": 8, "memory_bytes": None}],
        "leases": [{"name": "controller", "holder": "c-1", "epoch": 4, "expires_at": 5.0}],
        "events": [_event("leader-changed"), _event("quota-changed")],
    },
    "0006": {
        "pools": [{"name": "tail", "overcommit": 3.0, "awake_min_s": 30.0}],
        "rollouts": [
            {
                "model": "m",
                "to_revision": 2,
                "from_revision": 1,
                "policy": "{}",
                "state": "progressing",
                "step": 0,
                "percent": 0,
                "step_at": 1.0,
                "reason": "",
                "created_at": 1.0,
                "ended_at": None,
            }
        ],
        "scales": [
            {
                "model": "m",
                "variant": "default",
                "role": "unified",
                "workers": 2,
                "reason": "load",
                "at": 1.0,
            }
        ],
        "proposals": [
            {
                "id": "p",
                "model": "m",
                "base_revision": 2,
                "spec": json.dumps(SPEC),
                "reason": "measured",
                "created_at": 1.0,
                "created_by": "tune",
                "taken": None,
                "decided_at": None,
            }
        ],
        "traffic": [
            {
                "at": 1.0,
                "gateway": "g",
                "model": "m",
                "variant": "default",
                "revision": 2,
                "requests": 1,
                "errors": 0,
                "paired": 0,
                "prompt_tokens": 5,
                "completion_tokens": 7,
                "ttft": "{}",
                "tpot": "{}",
            }
        ],
        "demand": [
            {
                "gateway": "g",
                "model": "m",
                "at": 1.0,
                "queued": 0,
                "queued_prompt_tokens": 0,
                "oldest_at": 0.0,
                "in_flight": 1,
                "asked_at": 1.0,
            }
        ],
        "events": [_event("rollout"), _event("model-scaled"), _event("pool-changed")],
    },
    "0007": {
        "accounts": [
            {
                "name": "alice",
                "role": "viewer",
                "password_hash": "$argon2id$",
                "created_at": 1.0,
                "updated_at": 2.0,
            }
        ],
        "sessions": [
            {
                "digest": b"s" * 32,
                "actor": "account:alice",
                "role": "viewer",
                "account": "alice",
                "key_id": "",
                "created_at": 1.0,
                "seen_at": 2.0,
                "expires_at": 3.0,
            }
        ],
        "events": [_event("account-changed"), _event("sign-in")],
    },
    "0009": {
        "rollout_traffic": [
            {
                "model": "m",
                "to_revision": 2,
                "revision": 1,
                "variant": "default",
                "percent": 0,
                "since": 1.0,
                "until": 6.0,
                "requests": 2,
                "errors": 0,
                "ttft": "{}",
                "tpot": "{}",
            }
        ],
    },
    "0010": {
        "profiles": [
            {
                "id": "prf",
                "source": "hf://org/m",
                "engine": "vllm",
                "device_model": "NVIDIA H100",
                "devices": 1,
                "model": "m",
                "variant": "default",
                "runtime": "vllm-gpu",
                "memory_bytes": 1,
                "batched_tokens": 0,
                "kv_tokens": 1,
                "is_kv_told": True,
                "points": "[]",
                "measured_at": 1.0,
                "measured_by": "alice",
            }
        ],
        "events": [_event("profile")],
    },
}


def rows_of(version: str) -> Rows:
    """All tables that *version* has, each with rows in it."""
    made: Rows = {table: [dict(row) for row in rows] for table, rows in _FIRST.items()}
    for added in schema.known_versions():
        if added > version:
            break
        for table, columns in _COLUMNS.get(added, {}).items():
            for row in made[table]:
                row.update(columns)
        for table, rows in _TABLES.get(added, {}).items():
            made[table] = [*made.get(table, []), *map(dict, rows)]
    return made


async def insert(url: str, rows: Rows) -> None:
    def write(connection: Connection) -> None:
        for table, listed in rows.items():
            for row in listed:
                names = ", ".join(f'"{name}"' for name in row)
                values = ", ".join(f":{name}" for name in row)
                connection.execute(text(f'INSERT INTO "{table}" ({names}) VALUES ({values})'), row)

    engine = db.connect(url)
    async with db.writer(engine).begin() as connection:
        await connection.run_sync(write)
    await engine.dispose()


async def dump(url: str) -> dict[str, list[Row]]:
    """Every row of every table, as the database says it."""

    def read(connection: Connection) -> dict[str, list[Row]]:
        return {
            table: sorted(
                (
                    dict(row)
                    for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings()
                ),
                key=repr,
            )
            for table in schema.found(connection)
        }

    engine = db.connect(url)
    async with engine.connect() as connection:
        found = await connection.run_sync(read)
    await engine.dispose()
    return found
