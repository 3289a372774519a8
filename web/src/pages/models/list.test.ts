import { describe, expect, it } from "vitest";

import type { Schemas } from "../../api/client";
import { counts, found, listed, topology, why, workers } from "./list";

type Model = Schemas["ModelSummary"];

function variant(roles: Schemas["RoleCount"][]): Schemas["VariantSummary"] {
  return { name: "default", state: "ready", weight: 100, engine: "vllm", topology: "", roles };
}

function role(name: Schemas["Role"], desired: number, ready: number, asleep = 0) {
  return { role: name, desired, live: desired, ready, asleep, autoscale: null };
}

function model(name: string, more: Partial<Model> = {}): Model {
  return {
    name,
    state: "ready",
    condition: "",
    owner: "default",
    priority: 100,
    generation: 1,
    revision: 1,
    source: "hf://org/weights",
    created_at: "",
    updated_at: "",
    rollout: null,
    variants: [],
    rates: {
      requests_per_s: 0,
      error_rate: null,
      prompt_tokens_per_s: 0,
      completion_tokens_per_s: 0,
      ttft_p50_s: null,
      ttft_p95_s: null,
      tpot_p50_s: null,
      tpot_p95_s: null,
      queued: 0,
      in_flight: 0,
    },
    ...more,
  };
}

describe("a search", () => {
  const models = [
    model("llama", { owner: "research" }),
    model("qwen", { source: "hf://Qwen/Qwen2.5" }),
    model("llama-small"),
  ];
  const names = (search: string) => found(models, search).map((one) => one.name);

  it("finds in name, owner and source, whatever the case", () => {
    expect(names("LLAMA")).toEqual(["llama", "llama-small"]);
    expect(names("research")).toEqual(["llama"]);
    expect(names("qwen2.5")).toEqual(["qwen"]);
  });

  it("wants every word of it, but not across two fields", () => {
    expect(names("small hf")).toEqual(["llama-small"]);
    expect(names("llamaresearch")).toEqual([]);
  });

  it("of nothing keeps all", () => {
    expect(found(models, "  ")).toBe(models);
  });
});

it("counts by state", () => {
  const by = counts([model("a"), model("b", { state: "asleep" }), model("c")]);
  expect(by.get("ready")).toBe(2);
  expect(by.get("asleep")).toBe(1);
  expect(by.get("degraded")).toBeUndefined();
});

it("lists those in the chosen states, and counts all that were found", () => {
  const models = [model("a"), model("b", { state: "asleep" }), model("c", { owner: "x" })];
  const { by, rows } = listed(models, "default", ["ready"]);
  expect(rows.map((one) => one.name)).toEqual(["a"]);
  expect(by.get("asleep")).toBe(1);
});

it("says a topology in few characters", () => {
  const pair = variant([role("prefill", 1, 1), role("decode", 2, 2)]);
  const whole = { ...variant([role("unified", 2, 1)]), engine: "sglang" as const };
  expect(topology([pair])).toBe("1P:2D vLLM");
  expect(topology([pair, whole])).toBe("1P:2D vLLM + 2× SGLang");
});

it("counts workers over variants and roles", () => {
  const variants = [
    variant([role("prefill", 1, 1), role("decode", 2, 0, 1)]),
    variant([role("unified", 3, 3)]),
  ];
  expect(workers(model("m", { variants }))).toEqual({ ready: 4, asleep: 1, desired: 6 });
});

it("tells the condition before the rollout", () => {
  const rollout = {
    state: "progressing" as const,
    from_revision: 1,
    to_revision: 2,
    step: 1,
    steps: [25, 100],
    percent: 25,
    reason: "watches for 30 s",
  };
  expect(why(model("m", { rollout }))).toBe("revision 2 takes 25 %: watches for 30 s");
  expect(why(model("m", { rollout, condition: "no place" }))).toBe("no place");
  expect(why(model("m"))).toBe("");
});
