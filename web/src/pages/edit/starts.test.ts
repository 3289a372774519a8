import { expect, it } from "vitest";

import { isRead, read, valueAt } from "./document";
import { copyOf, reshaped, STARTS } from "./starts";

function topologyOf(text: string): Record<string, unknown> {
  const found = read(text);
  if (!isRead(found)) throw new Error(found.message);
  return valueAt(found.spec, ["variants", 0, "topology"]) as Record<string, unknown>;
}

it("every start is a spec of one model, under another form", () => {
  const types = STARTS.map((start) => topologyOf(start.text).type);
  expect(types).toEqual(["aggregated", "disaggregated", "external"]);
});

it("a copy has a name of its own", () => {
  expect(copyOf({ name: "chat", priority: 7 })).toBe("name: chat-copy\npriority: 7\n");
});

it("workers keep what they are given when their variant takes another topology", () => {
  const text =
    "name: a # mine\nvariants:\n  - topology: {type: aggregated, workers: 2, memory: 4GiB}\n";
  const role = { workers: 2, memory: "4GiB" };
  const pair = reshaped(text, ["variants", 0], topologyOf(text), "disaggregated");
  expect(topologyOf(pair)).toEqual({ type: "disaggregated", prefill: role, decode: role });
  expect(pair).toContain("# mine");
  const back = reshaped(pair, ["variants", 0], topologyOf(pair), "aggregated");
  expect(topologyOf(back)).toEqual({ type: "aggregated", ...role });
  const far = reshaped(back, ["variants", 0], topologyOf(back), "external");
  expect(topologyOf(far).workers).toHaveLength(1);
  const near = reshaped(far, ["variants", 0], topologyOf(far), "aggregated");
  expect(topologyOf(near)).toEqual({ type: "aggregated", workers: 1 });
});
