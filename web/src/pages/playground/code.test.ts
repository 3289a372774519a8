import { expect, test } from "vitest";

import { bodyOf } from "./body";
import { asCurl, asPython, inferenceUrl } from "./code";

const URL = inferenceUrl({ protocol: "http:", hostname: "127.0.0.1" });
const BODY = bodyOf("small", [{ role: "user", content: "What's new?" }], {
  temperature: 0,
  top_p: "",
  max_tokens: 16,
  seed: "",
});

test("parameters that are left empty are not sent", () => {
  expect(BODY).toMatchObject({ temperature: 0, max_tokens: 16 });
  expect(Object.keys(BODY)).not.toContain("top_p");
});

test("curl's body survives the shell", () => {
  const curl = asCurl(BODY, URL);
  expect(curl).toContain("http://127.0.0.1:8000/v1/chat/completions");
  expect(curl).toContain(String.raw`What'\''s new?`);
});

test("Python asks for the same", () => {
  const python = asPython(BODY, URL);
  expect(python).toContain('model="small"');
  expect(python).toContain("temperature=0");
  expect(python).not.toContain("stream_options");
});
