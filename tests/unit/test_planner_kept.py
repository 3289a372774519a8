"""What the silicon data was asked is asked once: it is kept for the next plan, or done without."""

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from planner_world import demand, fleet

from pipelines.planner import kept, silicon
from pipelines.planner.kept import Answers, Gap, Kept, Key, Room, cache_folder
from pipelines.planner.plan import Plan, Subject, plan
from pipelines.planner.times import NoDataError, NoRoomError, Worker

MODEL = "Qwen/Qwen3-8B"
KEY = Key(
    library="1",
    model=MODEL,
    system="h100_sxm",
    engine="vllm",
    devices=1,
    sequences_max=256,
    memory_used=0.9,
    prefill_factor=1.1,
    decode_factor=1.08,
)
ANSWERS = Answers(
    rooms={2048: Room(1, 2, 3, 4)},
    gaps={512: Gap("none", is_measured=False)},
    steps_s={(64,) * 4: 0.1},
)


class Library:
    """In place of `aiconfigurator_core.sdk`: it counts what it is asked."""

    def __init__(self) -> None:
        self.asked = Counter()
        self.EngineHandle = SimpleNamespace(compile=self._compile)

    def _compile(self, model, system, engine, **parallel):
        self.asked["compile"] += 1
        if parallel["tp_size"] == 4:
            raise RuntimeError("perf database error: no data\nand more")
        return self

    def estimate_kv_cache(self, *args, tp_size, **rest):
        self.asked["kv"] += 1
        if tp_size == 2:
            raise ValueError("no KV budget: too small")
        tokens = 300_000 * tp_size
        return {
            "total_kv_size_tokens": tokens,
            "total_gpu_capacity_bytes": 80 * 2**30,
            "kv_size_per_token_bytes": 100_000,
            "memory_breakdown": {"weights_bytes": 16_000_000_000},
        }

    def mixed_step_latency(self, part, sequences, prompt, answer):
        self.asked["step"] += 1
        return 5.0 + 0.01 * part + 0.02 * sequences

    def decode_step_latency(self, sequences, context, beams):
        self.asked["step"] += 1
        return 5.0 + 0.02 * sequences + 1e-5 * sequences * context


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setattr(silicon, "sdk", found)
    monkeypatch.setattr("pipelines.planner.plan.REQUESTS", 300)
    forget(monkeypatch)
    return found


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process knows nothing yet."""
    silicon._times.cache_clear()
    monkeypatch.setattr(silicon, "_ASKED", silicon._Asked())


@pytest.fixture(autouse=True)
def forgotten_after():
    yield
    silicon._times.cache_clear()


def planned() -> Plan:
    asked = Subject(demand=demand(rate=20.0), times_of=silicon.Silicon(MODEL).times)
    return plan([asked], fleet(H100=4))


def shown(made: Plan) -> list[object]:
    return [
        (choice.demand, [(o.parts, o.rate) for o in choice.options], choice.frontier, choice.why)
        for choice in made.choices
    ]


def never(text: str) -> None:
    raise AssertionError(text)


def test_the_second_plan_is_the_same_and_asks_nothing(library, monkeypatch, tmp_path: Path):
    plain = shown(planned())
    forget(monkeypatch)
    with silicon.kept_in(tmp_path / "deep" / "down", never):
        first = shown(planned())
    assert library.asked["step"] > 100
    library.asked.clear()
    forget(monkeypatch)
    with silicon.kept_in(tmp_path / "deep" / "down", never):
        second = shown(planned())
    assert not library.asked
    assert plain == first == second


def test_one_engine_is_compiled_for_all_batch_sizes_of_its_workers(library):
    times = silicon.Silicon(MODEL).times
    found = [times(Worker("vllm", "H100", 1, batched)) for batched in (512, 2048)]
    assert found[0].step_s(512, 512, 4, 256) == found[1].step_s(512, 512, 4, 256)
    assert (library.asked["compile"], library.asked["kv"]) == (1, 2)


def test_why_there_is_no_data_is_kept_too(library, monkeypatch, tmp_path: Path):
    def errors() -> list[NoDataError]:
        found = []
        for devices in (2, 4):
            with (
                silicon.kept_in(tmp_path, never),
                pytest.raises(NoDataError) as error,
            ):
                silicon.Silicon(MODEL).times(Worker("vllm", "H100", devices, 2048))
            found.append(error.value)
        return found

    first = errors()
    forget(monkeypatch)
    library.asked.clear()
    second = errors()
    assert not library.asked
    assert [str(one) for one in first] == [str(one) for one in second]
    assert [type(one) for one in second] == [NoRoomError, NoDataError]


@pytest.mark.parametrize("spoilt", [b"", b"\x00\xffnot", b"\x93\x01\x02\x03", "other", "endless"])
def test_what_cannot_be_read_is_as_if_it_were_not_there_and_told(tmp_path: Path, spoilt):
    Kept(tmp_path, never).write({KEY: ANSWERS})
    (path,) = tmp_path.iterdir()
    if spoilt == "other":
        spoilt = path.read_bytes().replace(b"Qwen3-8B", b"Qwen3-9B")
    elif spoilt == "endless":
        strange = Answers(steps_s={(1, 1, 1, 1): float("inf")})
        Kept(tmp_path, never).write({KEY: strange})
        spoilt = path.read_bytes()
    path.write_bytes(spoilt)
    told: list[str] = []
    found = Kept(tmp_path, told.append)
    assert found.read(KEY) == Answers()
    assert found.read(KEY) == Answers()
    assert len(told) == 1
    assert path.name in told[0]
    found.write({KEY: ANSWERS})
    assert Kept(tmp_path, never).read(KEY) == ANSWERS


def test_a_folder_that_cannot_be_written_is_told_of_and_the_plan_goes_on(library, tmp_path: Path):
    (tmp_path / "file").write_text("")
    told: list[str] = []
    with silicon.kept_in(tmp_path / "file" / "below", told.append):
        made = planned()
    assert made.choices[0].options
    assert len(told) == 1


def test_what_two_planners_write_is_joined_and_a_torn_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = Answers(steps_s={(0, 0, 1, 128): 0.1})
    two = Answers(steps_s={(0, 0, 2, 128): 0.2}, rooms={512: Room(1, 2, 3, 4)})
    for answers in (one, two):
        Kept(tmp_path, never).write({KEY: answers})
    both = Kept(tmp_path, never).read(KEY)
    assert both.steps_s == one.steps_s | two.steps_s
    assert both.rooms == two.rooms
    Kept(tmp_path, never).write({KEY: one})
    assert Kept(tmp_path, never).read(KEY) == both

    def full(self: Path, target: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    told: list[str] = []
    Kept(tmp_path, told.append).write({KEY: one})
    assert "no space left" in told[0]
    assert len(list(tmp_path.iterdir())) == 1
    assert Kept(tmp_path, never).read(KEY) == both


def test_files_and_folder_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept, "STEPS_MAX", 10)
    many = Answers(steps_s={(0, 0, n, 128): 0.1 for n in range(1, 50)})
    Kept(tmp_path, never).write({KEY: many})
    assert len(Kept(tmp_path, never).read(KEY).steps_s) == 10
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr(kept, "FOLDER_BYTES_MAX", 2 * path.stat().st_size)
    for number in range(5):
        (tmp_path / f"{number}.msgpack").write_bytes(path.read_bytes())
    Kept(tmp_path, never).write({KEY: many})
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= kept.FOLDER_BYTES_MAX
    assert Kept(tmp_path, never).read(KEY) != Answers(), "what was written last is there"
    monkeypatch.setattr(kept, "FILE_BYTES_MAX", 10)
    assert Kept(tmp_path, never).read(KEY) == Answers()


def test_each_part_of_the_key_has_answers_of_its_own(tmp_path: Path):
    Kept(tmp_path, never).write({KEY: ANSWERS})
    for field in msgspec.structs.fields(Key):
        value = getattr(KEY, field.name)
        other = msgspec.structs.replace(
            KEY, **{field.name: value + "x" if isinstance(value, str) else value + 1}
        )
        assert Kept(tmp_path, never).read(other) == Answers(), field.name


def test_it_lies_where_the_user_keeps_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "modelyard" / "planner"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "modelyard" / "planner"
