"""The emulator's language: a pure function of the text, which can be carried on anywhere."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pipelines.engines.emulator.text import count_tokens, state_of, text_of, token_ids, tokens

prompts = st.text(max_size=60)


def answer(text: str, count: int, *, seed: int = 1, starts_text: bool = False) -> list[str]:
    state = state_of(seed, "m", text)
    made = tokens(state, starts_text=starts_text, may_end=False)
    return [token.text for token in itertools.islice(made, count)]


@given(prompt=prompts, at=st.integers(1, 11))
def test_a_prompt_that_ends_with_the_start_of_an_answer_is_carried_on(prompt, at):
    whole = answer(prompt, 12)
    begun = prompt + "".join(whole[:at])
    assert answer(begun, 12 - at) == whole[at:]


@given(prompt=prompts)
def test_an_answer_of_its_own_begins_without_a_space_and_is_carried_on(prompt):
    whole = answer(prompt, 5, starts_text=True)
    assert not whole[0].startswith(" ")
    assert answer(prompt + whole[0], 4) == whole[1:]


def test_seed_model_and_prompt_all_matter():
    states = {
        state_of(seed, model, text)
        for seed, model, text in itertools.product((0, 1), ("a", "b"), ("x", "y"))
    }
    assert len(states) == 8


def test_answers_that_may_end_do_end_at_different_lengths():
    lengths = set()
    for index in range(40):
        made = tokens(state_of(0, "m", str(index)), starts_text=True, may_end=True)
        lengths.add(len(list(itertools.islice(made, 2000))))
    assert max(lengths) < 2000
    assert len(lengths) > 10


@given(text=st.text())
def test_the_tokens_of_a_text_are_counted_without_being_made(text):
    assert count_tokens(text) == len(token_ids(text))


@given(prompt=prompts, chat=st.booleans())
def test_what_was_said_has_as_many_tokens_as_it_was_said_in(prompt, chat):
    if chat:
        prompt = f"<|user|>{prompt}<|end|><|assistant|>"
    said = answer(prompt, 30, starts_text=chat)
    ids = token_ids(prompt + "".join(said))
    assert ids[: count_tokens(prompt)] == token_ids(prompt)
    assert len(ids) == count_tokens(prompt) + 30
    assert text_of(ids[-30:]) == "".join(said)


def test_long_answers_do_not_run_in_a_circle():
    words = answer("Once upon a time", 3000)
    runs = {tuple(words[at : at + 6]) for at in range(0, 2994, 6)}
    assert len(runs) > 490
