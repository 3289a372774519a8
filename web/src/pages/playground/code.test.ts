import { expect, test } from "vitest";

import { bodyOf } from "./body";
import { asCurl, asPython, inferenceUrl } from "./code";

const HERE = { protocol: "http:", hostname: "127.0.0.1" };
const URL = inferenceUrl({ inference_host: "", inference_port: 9000 }, HERE);
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
  expect(curl).toContain("http://127.0.0.1:9000/v1/chat/completions");
  expect(curl).toContain(String.raw`What'\''s new?`);
});

test("an address of its own is the one to ask", () => {
  const at = (inference_host: string) => inferenceUrl({ inference_host, inference_port: 80 }, HERE);
  expect([at("10.0.0.5"), at("fd00::5")]).toEqual([
    "http://10.0.0.5:80/v1",
    "http://[fd00::5]:80/v1",
  ]);
});

test("Python asks for the same", () => {
  const python = asPython(BODY, URL);
  expect(python).toContain('model="small"');
  expect(python).toContain("temperature=0");
  expect(python).not.toContain("stream_options");
});
