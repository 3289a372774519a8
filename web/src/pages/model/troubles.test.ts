import { describe, expect, it } from "vitest";

import type { Schemas } from "../../api/client";
import { troubles } from "./troubles";

const NOWHERE: Schemas["NoPlaceView"] = {
  model: "m",
  variant: "default",
  workers: ["m-unified-0", "m-unified-1"],
  together: false,
  role: "unified",
  ordinal: 0,
  owner: "default",
  priority: 100,
  devices: 1,
  memory_bytes: 0,
  waits_for: [],
  why: [
    {
      reason: "device_memory" as Schemas["Reason"],
      sentence: "needs 900 GiB, the largest has 80 GiB",
      advice: "ask for less memory",
      node_count: 5,
      nodes: ["a", "b", "c", "d", "e"],
    },
  ],
};

function model(more: Partial<Parameters<typeof troubles>[0]> = {}) {
  return { name: "m", state: "unavailable" as const, condition: "", no_place: [], ...more };
}

function problem(name: string): Schemas["ProblemView"] {
  return {
    severity: "error",
    kind: "model",
    name,
    sentence: "nothing answers: 0 of 2 ready",
    advice: "free devices",
  };
}

describe("what is wrong", () => {
  it("is nothing where all is well", () => {
    expect(troubles(model({ state: "ready" }), [problem("another")])).toEqual([]);
  });

  it("is said once, with why there is no place before the general advice", () => {
    const found = troubles(model({ condition: "0 of 2 ready", no_place: [NOWHERE] }), [
      problem("m"),
    ]);
    expect(found).toHaveLength(1);
    expect(found[0]?.sentence).toBe("Nothing answers: 0 of 2 ready");
    expect(found[0]?.what).toEqual([
      "default, 2 workers: a, b, c and 2 more: needs 900 GiB, the largest has 80 GiB. Ask for less memory.",
      "Free devices",
    ]);
  });

  it("is the condition where the overview says nothing of it", () => {
    expect(troubles(model({ condition: "0 of 2 ready" }), [])).toEqual([
      { severity: "error", sentence: "0 of 2 ready", what: [] },
    ]);
    expect(troubles(model({ state: "degraded", condition: "slow" }), [])[0]?.severity).toBe(
      "warning",
    );
  });

  it("is what is waited for, where a place is coming", () => {
    const [found] = troubles(model({ no_place: [{ ...NOWHERE, waits_for: ["old-0"] }] }), []);
    expect(found?.what).toEqual(["default, 2 workers: waits for old-0 to end."]);
  });
});
