import { expect, it } from "vitest";

import { begun, bodyOf, devicesByModel, newModel, newNodes, placeOf } from "./asked";

const MODEL = {
  name: "chat",
  source: "hf://Qwen/Qwen3-8B",
  slo: { ttft_s: 1, tpot_s: 0.05 },
  requests_per_s: 0.123456,
  prompt_tokens: 1059.3333,
  answer_tokens: 50,
  length_cv: 1,
  trace: "",
  share: 0.95,
  weight: 1,
  engines: ["vllm"],
  measured_as: "",
  headroom: 0.3,
};

const LIVE = {
  traffic: { models: [MODEL] },
  fleet: {
    nodes: [
      { device_model: "H100", count: 2, devices: 8, island: 4, fabric_gbit_s: 100, cost: 2.5 },
    ],
  },
};

it("the form begins with what was asked on the nodes that are there, and asks for the same", () => {
  const body = bodyOf(begun(LIVE));
  expect(body.traffic.models).toEqual([
    {
      name: "chat",
      source: "hf://Qwen/Qwen3-8B",
      slo: { ttft_s: 1, tpot_s: 0.05 },
      requests_per_s: 0.1235,
      prompt_tokens: 1059,
      answer_tokens: 50,
      length_cv: 1,
      share: 0.95,
      weight: 1,
      headroom: 0.3,
      engines: ["vllm"],
      measured_as: "",
    },
  ]);
  expect(body.fleet).toEqual(LIVE.fleet);
  expect(body.objective).toBe("goodput");
});

it("what the API leaves out is as usual", () => {
  const { name, source, slo, requests_per_s, prompt_tokens, answer_tokens } = MODEL;
  const model = { name, source, slo, requests_per_s, prompt_tokens, answer_tokens };
  const nodes = [{ device_model: "L4" }];
  const short = { traffic: { models: [model] }, fleet: { nodes } } as unknown as typeof LIVE;
  const body = bodyOf(begun(short));
  expect(body.traffic.models[0]).toMatchObject({
    ...{ weight: 1, share: 0.95, length_cv: 1, headroom: 0 },
  });
  expect(body.fleet.nodes).toEqual([
    { device_model: "L4", count: 1, devices: 8, island: 0, fabric_gbit_s: 200, cost: 1 },
  ]);
});

it("where nothing was asked and no node answers there is an example of both", () => {
  const asked = begun({ traffic: null, fleet: null });
  expect(asked.models).toHaveLength(1);
  expect(devicesByModel(bodyOf(asked))).toEqual(new Map([["H100", 8]]));
});

it("new rows are rows of their own, and what is left empty in them is not sent", () => {
  const first = begun(LIVE);
  const { models, nodes } = first;
  const asked = {
    ...first,
    ...{ models: [...models, newModel(models)], nodes: [...nodes, newNodes(nodes)] },
  };
  expect(asked.models.map((row) => row.id)).toEqual([0, 1]);
  const body = bodyOf(asked);
  expect(body.traffic.models[1]).toMatchObject({ name: "", slo: { ttft_s: 1, tpot_s: 0.05 } });
  expect(body.traffic.models[1]).not.toHaveProperty("requests_per_s");
});

it("what the API names is found in the form", () => {
  const asked = begun(LIVE);
  const places = [
    "traffic.models[0].requests_per_s",
    "traffic.models[0].slo.tpot_s",
    "traffic.models[0].slo",
    "models[0].measured_as",
    "traffic.models[0].engines[1]",
    "fleet.nodes[0].island",
  ].map((field) => placeOf(field, asked)?.field);
  expect(places).toEqual([
    ...["requests_per_s", "tpot_s", "ttft_s", "measured_as", "engines", "island"],
  ]);
  for (const field of ["", "seed", "traffic.models", "traffic.models[9].name", "nodes[0].x"]) {
    expect(placeOf(field, asked)).toBeNull();
  }
});
