import { expect, it } from "vitest";

import type { Schemas } from "../../api/client";
import { isUnderWay, measures, stepsOf } from "./rollout";

const SIDE: Schemas["RolledSide"] = {
  revision: 1,
  percent: 75,
  roles: [{ variant: "default", role: "decode", wanted: 2, ready: 1, live: 2 }],
  requests: 40,
  error_rate: 0,
  ttft_s: 0.1,
  tpot_s: null,
};

function rollout(more: Partial<Schemas["RolloutView"]> = {}): Schemas["RolloutView"] {
  return {
    model: "m",
    state: "progressing",
    from_revision: 1,
    to_revision: 2,
    step: 1,
    steps: [25, 100],
    percent: 25,
    reason: "",
    promote: "auto",
    pause_s: 60,
    gate: {
      watch_s: 30,
      requests_min: 20,
      error_rate_max: 0.02,
      ttft_ratio_max: 1.5,
      tpot_ratio_max: 2,
    },
    created_at: "",
    step_at: "",
    ended_at: null,
    seen: null,
    old: SIDE,
    new: { ...SIDE, revision: 2, percent: 25, requests: 10, ttft_s: 0.12 },
    ...more,
  };
}

it("has its steps with the one before the first", () => {
  expect(stepsOf(rollout()).map((step) => step.state)).toEqual(["done", "now", "to come"]);
  expect(stepsOf(rollout({ step: 0 })).map((step) => step.state)).toEqual([
    "now",
    "to come",
    "to come",
  ]);
  expect(stepsOf(rollout({ state: "done", step: 2 })).map((step) => step.state)).toEqual([
    "done",
    "done",
    "done",
  ]);
});

it("that was rolled back stands nowhere", () => {
  const states = stepsOf(rollout({ state: "rolled-back" })).map((step) => step.state);
  expect(states).not.toContain("now");
  expect(isUnderWay("rolled-back")).toBe(false);
});

it("shows both revisions beside what the gate allows", () => {
  const by = new Map(measures(rollout()).map((measure) => [measure.name, measure]));
  expect(by.get("TTFT, median")).toEqual({
    name: "TTFT, median",
    old: "100 ms",
    new: "120 ms",
    allowed: "1.5 times the old one (150 ms)",
  });
  expect(by.get("TPOT, median")?.allowed).toBe("2 times the old one");
  expect(by.get("Workers ready")?.old).toBe("1 of 2 default decode");
  expect(measures(rollout({ gate: null })).every((measure) => measure.allowed === "")).toBe(true);
});
