import type { Schemas } from "../../api/client";

// What the list of models shows of each, and which of them. Pure.

type Model = Schemas["ModelSummary"];
type Variant = Schemas["VariantSummary"];
export type State = Schemas["ServingState"];

/** What is wrong first: the order in which the states are offered. */
export const STATES: readonly State[] = [
  "unavailable",
  "degraded",
  "starting",
  "rolling",
  "deleting",
  "asleep",
  "ready",
];

/** What is listed: of all that the search finds how many are in which state, and the rows. */
export function listed(
  models: readonly Model[],
  search: string,
  states: readonly string[],
): { by: ReadonlyMap<State, number>; rows: readonly Model[] } {
  const hits = found(models, search);
  const rows = states.length === 0 ? hits : hits.filter((model) => states.includes(model.state));
  return { by: counts(hits), rows };
}

/** Those that have all words of *search* in their name, owner or source, in their order. */
export function found(models: readonly Model[], search: string): readonly Model[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return models;
  return models.filter((model) => {
    const text = `${model.name}\n${model.owner}\n${model.source}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

export function counts(models: readonly Model[]): ReadonlyMap<State, number> {
  const by = new Map<State, number>();
  for (const model of models) by.set(model.state, (by.get(model.state) ?? 0) + 1);
  return by;
}

const ENGINES: Record<Schemas["EngineName"], string> = {
  vllm: "vLLM",
  sglang: "SGLang",
  openai: "external",
  emulator: "emulator",
};

/** "1P:2D vLLM", "2× SGLang"; variants with a plus between. */
export function topology(variants: readonly Variant[]): string {
  return variants.map(shape).join(" + ");
}

function shape(variant: Variant): string {
  const of = (role: Schemas["Role"]) => variant.roles.find((count) => count.role === role)?.desired;
  const engine = variant.engine === null ? "" : ` ${ENGINES[variant.engine]}`;
  const prefill = of("prefill");
  if (prefill !== undefined) return `${prefill}P:${of("decode") ?? 0}D${engine}`;
  if (variant.topology === "removed") return `${variant.name} leaves`;
  return `${of("unified") ?? 0}×${engine}`;
}

/** Workers that are ready, and wanted, of all variants and roles. */
export function workers(model: Model): { ready: number; asleep: number; desired: number } {
  const roles = model.variants.flatMap((variant) => variant.roles);
  const sum = (of: (count: Schemas["RoleCount"]) => number) =>
    roles.reduce((total, count) => total + of(count), 0);
  return {
    ready: sum((count) => count.ready),
    asleep: sum((count) => count.asleep),
    desired: sum((count) => count.desired),
  };
}

/** Why it is as it is, in one line: its condition, else its rollout. */
export function why(model: Model): string {
  if (model.condition !== "") return model.condition;
  const { rollout } = model;
  if (rollout === null) return "";
  return `revision ${rollout.to_revision} takes ${rollout.percent} %${rollout.reason === "" ? "" : `: ${rollout.reason}`}`;
}
