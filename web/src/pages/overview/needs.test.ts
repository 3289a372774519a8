import { expect, test } from "vitest";

import type { Schemas } from "../../api/client";
import { briefly, feeding, inOrderOfNeed, linkOf } from "./needs";

function model(name: string, state: Schemas["ServingState"], requests_per_s = 0) {
  return { name, state, rates: { requests_per_s } } as Schemas["ModelSummary"];
}

test("what does not answer comes first, then what is busy", () => {
  const models = [
    model("quiet", "ready"),
    model("busy", "ready", 9),
    model("dead", "unavailable"),
    model("half", "degraded"),
    model("sleeping", "asleep"),
  ];
  expect(inOrderOfNeed(models).map(({ name }) => name)).toEqual([
    "dead",
    "half",
    "busy",
    "quiet",
    "sleeping",
  ]);
});

test("a problem leads to where it can be looked at", () => {
  expect(linkOf({ kind: "model", name: "a" })).toBe("/models/a");
  expect(linkOf({ kind: "rollout", name: "a" })).toBe("/models/a?tab=rollout");
  expect(linkOf({ kind: "device", name: "n1/gpu0" })).toBe("/fleet?node=n1");
  expect(linkOf({ kind: "node", name: "n1" })).toBe("/fleet?node=n1");
});

test("who feeds whom is said in words", () => {
  const role = (name: string, desired: number) => ({ role: name, desired });
  const variants = [
    { engine: "vllm", roles: [role("prefill", 2), role("decode", 3)] },
    { engine: "sglang", roles: [role("unified", 1)] },
    { engine: "openai", roles: [] },
  ];
  expect(feeding(variants as never)).toBe("2 prefill → 3 decode + 1 worker + an external server");
});

test("a reason is said once", () => {
  const advice = "its last worker failed (killed: (9)): modelyard logs w-1";
  expect(briefly({ advice, sentence: "the last one failed: killed: (9)" })).toBe(
    "its last worker failed: modelyard logs w-1",
  );
  expect(briefly({ advice, sentence: "nothing answers" })).toBe(advice);
});
