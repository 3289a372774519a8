import { expect, test } from "vitest";

import { Lines } from "../../api/lines";
import { chunkOf, dataOf } from "./sse";

test("events are whole, wherever their pieces were cut", () => {
  const stream = 'data: {"a": 1}\n\n: a heartbeat\n\ndata: {"b": 2}\r\n\r\ndata: [DONE]\n\n';
  for (let cut = 0; cut <= stream.length; cut += 1) {
    const lines = new Lines();
    const whole = [...lines.push(stream.slice(0, cut)), ...lines.push(stream.slice(cut))];
    const found = whole.map(dataOf).filter((data) => data !== null);
    expect(found).toEqual(['{"a": 1}', '{"b": 2}', "[DONE]"]);
  }
});

test("a chunk has its text, and the last one the usage", () => {
  expect(chunkOf('{"choices": [{"delta": {"content": "Hi"}}]}')?.text).toBe("Hi");
  const usage = { prompt_tokens: 3, completion_tokens: 5 };
  expect(chunkOf(JSON.stringify({ choices: [], usage }))).toEqual({
    text: "",
    usage,
    finish: null,
  });
  expect(chunkOf("[DONE]")).toBeNull();
});

test("an error in the stream is one", () => {
  expect(() => chunkOf('{"error": {"message": "the worker is gone"}}')).toThrow(
    "the worker is gone",
  );
});
