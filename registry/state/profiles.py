"""How long an engine's steps were seen to take."""

from registry.state.value import Value

PROMPTS_ANSWER_TOKENS = 1  # of loads that show what prompts take


class LoadPoint(Value, frozen=True, kw_only=True):
    """What a load took, in the median of *rounds* (0: while it warmed up, and then no more):
    *requests* at once, each with a prompt of *prompt_tokens* and asked for *answer_tokens*. Asked
    for one, *seconds* are those until the last of them was there; for more, those of each token
    while all requests were being answered.
    """

    requests: int
    prompt_tokens: int
    answer_tokens: int
    seconds: float
    rounds: int


class Profile(Value, frozen=True, kw_only=True):
    """What was measured of the weights of *source* (as in a spec) under *engine*, on a worker of
    *devices* of one *device_model* (tensor parallel), of each of which it claimed *memory_bytes*.

    *batched_tokens* bound its steps, 0: as its engine does by itself. *kv_tokens* is what its KV
    cache has room for, as the engine told (*is_kv_told*), else what it was seen to hold at once.
    """

    source: str
    engine: str
    device_model: str
    devices: int
    memory_bytes: int
    batched_tokens: int
    kv_tokens: int
    is_kv_told: bool
    points: tuple[LoadPoint, ...]


class StoredProfile(Value, frozen=True, kw_only=True):
    """The newest *profile* of its weights, engine, device model and count of devices, measured on
    *variant* of *model* in *runtime*. It is of weights, and outlives the model.
    """

    id: str
    model: str
    variant: str
    runtime: str
    profile: Profile
    measured_at: float
    measured_by: str
