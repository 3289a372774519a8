import type { Schemas } from "../../api/client";

// What is asked, as rows of a form, and as the body that the API takes. Pure.

/** A number as it is typed; "" where there is none. */
export type Typed = number | string;

export type ModelRow = {
  /** Which row it is, whatever is typed in it. */
  id: number;
  name: string;
  source: string;
  requests_per_s: Typed;
  prompt_tokens: Typed;
  answer_tokens: Typed;
  ttft_s: Typed;
  tpot_s: Typed;
  weight: Typed;
  share: Typed;
  length_cv: Typed;
  headroom: Typed;
  engines: readonly string[];
  measured_as: string;
};

export type NodeRow = {
  id: number;
  device_model: string;
  count: Typed;
  devices: Typed;
  island: Typed;
  fabric_gbit_s: Typed;
  cost: Typed;
};

export type Asked = {
  models: readonly ModelRow[];
  nodes: readonly NodeRow[];
  objective: Objective;
};

type Live = Pick<Schemas["Live"], "traffic" | "fleet">;

export const ENGINES = ["vllm", "sglang"];

export type Objective = "goodput" | "devices";

export const OBJECTIVES: readonly { value: Objective; label: string }[] = [
  { value: "goodput", label: "As much as can be, at the least cost" },
  { value: "devices", label: "All of it, at the least cost" },
];

const USUAL = {
  ...{ weight: 1, share: 0.95, length_cv: 1, headroom: 0 },
  engines: ENGINES,
  measured_as: "",
};

const EXAMPLE: Omit<ModelRow, "id"> = {
  ...USUAL,
  name: "llama-8b",
  source: "hf://meta-llama/Llama-3.1-8B-Instruct",
  requests_per_s: 20,
  prompt_tokens: 1024,
  answer_tokens: 200,
  ttft_s: 1,
  tpot_s: 0.04,
};

const NODES: Omit<NodeRow, "id"> = {
  device_model: "H100",
  count: 1,
  devices: 8,
  island: 0,
  fabric_gbit_s: 200,
  cost: 1,
};

/**
 * The form's beginning: what was asked lately on the nodes that are there; else an example. What
 * is as usual the API leaves out.
 */
export function begun({ traffic, fleet }: Live): Asked {
  const models = (traffic?.models ?? []).map(({ slo, ...model }, id) => ({
    ...USUAL,
    ...model,
    id,
    headroom: model.headroom ?? USUAL.headroom,
    requests_per_s: rounded(model.requests_per_s),
    prompt_tokens: rounded(model.prompt_tokens),
    answer_tokens: rounded(model.answer_tokens),
    ttft_s: slo.ttft_s ?? "",
    tpot_s: slo.tpot_s ?? "",
  }));
  const nodes = (fleet?.nodes ?? []).map((kind, id) => ({ ...NODES, ...kind, id }));
  return {
    models: models.length > 0 ? models : [{ ...EXAMPLE, id: 0 }],
    nodes: nodes.length > 0 ? nodes : [{ ...NODES, id: 0 }],
    objective: "goodput",
  };
}

/** A mean has more digits than it is worth. */
function rounded(value: number | undefined): Typed {
  return value === undefined ? "" : Number(value.toPrecision(4));
}

export function nextId(rows: readonly { id: number }[]): number {
  return Math.max(-1, ...rows.map((row) => row.id)) + 1;
}

export function newModel(rows: readonly ModelRow[]): ModelRow {
  const promised = rows.at(-1) ?? EXAMPLE;
  return {
    ...USUAL,
    id: nextId(rows),
    name: "",
    source: "",
    requests_per_s: "",
    prompt_tokens: "",
    answer_tokens: "",
    ttft_s: promised.ttft_s,
    tpot_s: promised.tpot_s,
  };
}

export function newNodes(rows: readonly NodeRow[]): NodeRow {
  return { ...NODES, id: nextId(rows), device_model: "" };
}

export type Body = {
  traffic: { models: Record<string, unknown>[] };
  fleet: { nodes: Record<string, unknown>[] };
  objective: Objective;
};

/** What is left empty is left out: whether it may be is the API's to say. */
export function bodyOf({ models, nodes, objective }: Asked): Body {
  return {
    objective,
    traffic: {
      models: models.map((row) => ({
        name: row.name.trim(),
        source: row.source.trim(),
        slo: numbers({ ttft_s: row.ttft_s, tpot_s: row.tpot_s }),
        engines: row.engines,
        measured_as: row.measured_as.trim(),
        ...numbers({
          requests_per_s: row.requests_per_s,
          prompt_tokens: row.prompt_tokens,
          answer_tokens: row.answer_tokens,
          weight: row.weight,
          share: row.share,
          length_cv: row.length_cv,
          headroom: row.headroom,
        }),
      })),
    },
    fleet: {
      nodes: nodes.map((row) => ({
        device_model: row.device_model.trim(),
        ...numbers({
          count: row.count,
          devices: row.devices,
          island: row.island,
          fabric_gbit_s: row.fabric_gbit_s,
          cost: row.cost,
        }),
      })),
    },
  };
}

function numbers(typed: Readonly<Record<string, Typed>>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(typed)
      .filter(([, value]) => value !== "")
      .map(([name, value]) => [name, Number(value)]),
  );
}

/** Devices of each kind in the fleet that is asked about. */
export function devicesByModel({ fleet }: Body): Map<string, number> {
  const sums = new Map<string, number>();
  for (const kind of fleet.nodes) {
    const name = String(kind.device_model);
    const devices = Number(kind.count ?? 1) * Number(kind.devices ?? 8);
    sums.set(name, (sums.get(name) ?? 0) + devices);
  }
  return sums;
}

const MODEL_FIELDS = [
  ...["name", "source", "requests_per_s", "prompt_tokens", "answer_tokens"],
  ...["ttft_s", "tpot_s", "weight", "share", "length_cv", "headroom", "engines", "measured_as"],
];
const NODE_FIELDS = ["device_model", "count", "devices", "island", "fabric_gbit_s", "cost"];

/** Those that are shown where they are asked for, or wrong. */
export const RARE = [
  ...["share", "length_cv", "headroom", "engines", "measured_as"],
  ...["island", "fabric_gbit_s", "cost"],
];

/** Where in the form something is wrong. */
export type Place = { of: "models" | "nodes"; row: number; field: string };

/**
 * The form's field that the API names, in a refusal ("traffic.models[0].weight") or from within the
 * planner ("models[0].measured_as"); null where the form has none.
 */
export function placeOf(named: string, { models, nodes }: Asked): Place | null {
  const found = /^(?:traffic\.|fleet\.)?(models|nodes)\[(\d+)\]\.([a-z_]+)(?:\.([a-z_]+))?/.exec(
    named,
  );
  if (found === null) return null;
  const [, of, index, first, second] = found;
  const row = Number(index);
  // A promise that is missing as a whole is told at its first field.
  const field = (first === "slo" ? (second ?? "ttft_s") : first) ?? "";
  if (of === "models" && row < models.length && MODEL_FIELDS.includes(field)) {
    return { of, row, field };
  }
  if (of === "nodes" && row < nodes.length && NODE_FIELDS.includes(field)) {
    return { of, row, field };
  }
  return null;
}
