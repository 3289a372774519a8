"""A worker that tells one story, as a greedy engine would: from wherever the text so far ends."""

import contextlib
import json
import re
import zlib

from gateway_world import (
    AGGREGATED,
    FakeWorker,
    Gateway,
    a_declared,
    a_fleet,
    a_table,
    event,
)

PROMPT = "Tell me:"
CHAT = {"messages": [{"role": "user", "content": PROMPT}]}
PLAIN = {"prompt": PROMPT, "max_tokens": 99}
STORY = 'Héron "A"\\: 🙂\n\n naïve 東京, so it  ends.'
_USAGE = {"include_usage": True}


def split(text):
    """Its tokens. A beginning of the text that ends where a token does has the same ones."""
    return re.findall(r"\s?\S+|\s", text)


def ids(text):
    return [zlib.crc32(token.encode()) for token in split(text)]


class Teller:
    """Give it to several workers. *cuts* are bytes of stream after which an answer breaks off, in
    the order of the requests; *tokenize* answers that question otherwise, *strips* is a chat
    template that strips messages, *thinks* one that puts a closed block of thoughts before them.
    """

    def __init__(
        self, *, story=STORY, cuts=(), tokenize=None, strips=False, thinks=False, crlf=False
    ):
        self.story = split(story)
        self.cuts = list(cuts)
        self.tokenize = tokenize
        self.strips = strips
        self.thinks = thinks
        self.crlf = crlf
        self.asked = []  # bodies of requests for text

    async def __call__(self, call):
        if call.method == "GET":
            await call.answer(body={"data": []})
        elif call.path != "/tokenize":
            self.asked.append(call.json)
            await self._tell(call)
        elif self.tokenize is not None:
            await self.tokenize(call)
        else:
            tokens = self.prompt_ids(call.json)
            await call.answer(body={"tokens": tokens, "count": len(tokens)})

    def prompt_ids(self, body):
        if "messages" not in body:
            prompt = body["prompt"]
            return list(prompt) if isinstance(prompt, list) else ids(prompt)
        out = []
        goes_on = body.get("continue_final_message")
        assert not (goes_on and body.get("add_generation_prompt", True))
        for message in body["messages"]:
            said = message["content"].strip() if self.strips else message["content"]
            thoughts = [4, 5, 6, 7] if self.thinks and message["role"] == "assistant" else []
            out += [1, len(message["role"]), *thoughts, *ids(said), 2]
        if goes_on:
            return out[:-1]
        return [*out, 1, len("assistant")] if body.get("add_generation_prompt", True) else out

    def _said(self, body):
        """How much of the story the prompt ends with, in tokens."""
        if "messages" in body:
            goes_on = body.get("continue_final_message")
            text = body["messages"][-1]["content"] if goes_on else ""
            text = text.rstrip() if self.strips else text
        elif isinstance(body["prompt"], list):
            rest = body["prompt"][len(ids(PROMPT)) :]
            counts = range(len(self.story) + 1)
            return next(n for n in counts if ids("".join(self.story[:n])) == rest)
        else:
            text = body["prompt"].removeprefix(PROMPT)
        counts = range(len(self.story) + 1)
        return next(n for n in counts if "".join(self.story[:n]) == text)

    def payload(self, body):
        """The stream that *body* asks for."""
        chat = "messages" in body
        begin = self._said(body)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        if not chat:
            limit = limit or 16
        rest = [*self.story[begin:], None][: limit or None]
        base = {
            "id": f"c-{len(self.asked):06}",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 1_000_000 + len(self.asked),
            "model": body["model"],
        }

        def chunk(finish=None, **said):
            choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
            return event({**base, "choices": [choice]})

        out = [chunk(delta={"role": "assistant", "content": ""})] if chat else []
        for number, token in enumerate(rest, 1):
            finish = "stop" if token is None else "length" if number == limit else None
            said = {"delta": {"content": token or ""}} if chat else {"text": token or ""}
            out.append(chunk(finish, **said))
        if (body.get("stream_options") or {}).get("include_usage"):
            counted = {
                "prompt_tokens": len(self.prompt_ids(body)),
                "completion_tokens": len(rest),
                "total_tokens": len(self.prompt_ids(body)) + len(rest),
            }
            out.append(event({**base, "choices": [], "usage": counted}))
        out.append(event(b"[DONE]"))
        data = b"".join(out)
        return data.replace(b"\n\n", b"\r\n\r\n") if self.crlf else data

    async def _tell(self, call):
        data = self.payload(call.json)
        await call.begin_stream()
        if self.cuts and (cut := self.cuts.pop(0)) is not None:
            if cut:
                await call.chunk(data[:cut])
            raise ConnectionResetError
        await call.chunk(data)
        await call.end_stream()


def after(data, mark):
    """The place in *data* behind the event that holds *mark*."""
    return data.index(b"\n\n", data.index(mark)) + 2


class Heard:
    """What a client makes of a stream."""

    def __init__(self, content):
        events = content.replace(b"\r\n", b"\n").removesuffix(b"\n\n").split(b"\n\n")
        assert all(event.startswith(b"data: ") for event in events), content
        data = [event.removeprefix(b"data: ") for event in events]
        self.done = data.count(b"[DONE]")
        assert b"[DONE]" not in data[:-1]
        chunks = [json.loads(item) for item in data if item != b"[DONE]"]
        self.error = chunks.pop()["error"] if chunks and "error" in chunks[-1] else None
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        says = [choice.get("delta", choice) for choice in choices]
        self.ids = {chunk.get("id") for chunk in chunks}
        self.times = {chunk.get("created") for chunk in chunks}
        self.roles = sum("role" in said for said in says)
        self.text = "".join(said.get("content") or said.get("text") or "" for said in says)
        self.finish = [c["finish_reason"] for c in choices if c.get("finish_reason")]
        self.usage = [chunk["usage"] for chunk in chunks if chunk.get("usage")]

    def facts(self):
        """All that must be as if nothing had happened."""
        one_id = (len(self.ids), len(self.times))
        return (self.text, self.finish, self.usage, self.roles, self.done, self.error, one_id)


@contextlib.asynccontextmanager
async def a_tellers_gateway(*tellers, engine="vllm", limits=None, topology=AGGREGATED, **options):
    """A gateway before workers of *engine*, each of them one of *tellers*."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        fakes = [await enter(FakeWorker(teller)) for teller in tellers]
        gateway = await enter(Gateway(**options))
        variants = [{"engine": engine, "topology": topology}]
        model = a_declared(variants=variants, limits=limits or {})
        fleet = a_fleet(model, unified=[fake.url for fake in fakes])
        gateway.plane.table = a_table(models=[model], workers=fleet)
        gateway.workers = fakes
        yield gateway


async def listen(gateway, body, **more):
    path = "/v1/chat/completions" if "messages" in body else "/v1/completions"
    asked = {"model": "m", "stream": True, "stream_options": _USAGE, **body, **more}
    answer = await gateway.client.post(path, json=asked)
    assert answer.status_code == 200, answer.text
    return Heard(answer.content)
