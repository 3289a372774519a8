// The lines of a recommendation's stream. The API's document says only that they are a stream.

import type { Objective } from "./asked";

export type Family = "aggregated" | "disaggregated";

export const FAMILIES: readonly Family[] = ["aggregated", "disaggregated"];

/** Where step times come from: this fleet, data of this model, data of one like it. */
export type Times = "measured here" | "data" | "estimate";

/** A topology with its sizes. *rate* in requests a second within the SLO. */
export type Shape = {
  shape: string;
  family: Family;
  engine: string;
  device_model: string;
  devices: number;
  rate: number;
  tokens_per_device: number;
  binding: string;
  times: Times;
};

/** The fewest devices of this kind and family that serve all of the traffic alone, if any do. */
export type Alternative = { family: Family; device_model: string; shape: Shape | null };

/** Answered tokens a second and device, each within *tpot_s*; 0 where no shape does that. */
export type FrontierPoint = {
  family: Family;
  tpot_s: number;
  tokens_per_device: number;
  shape: string;
};

export type ModelPlan = {
  model: string;
  requests_per_s: number;
  headroom: number;
  served: number;
  goodput: number;
  shapes: readonly Shape[];
  why: string;
  measured_as: string;
  is_estimate: boolean;
  confirmed: {
    share: number;
    share_worst: number;
    ttft_p95_s: number;
    tpot_p95_s: number;
  } | null;
  alternatives: readonly Alternative[];
  frontier: readonly FrontierPoint[];
  spec: Readonly<Record<string, unknown>> | null;
};

export type Plan = {
  models: readonly ModelPlan[];
  goodput: number;
  objective: Objective;
  devices: number;
  cost: number;
  devices_of_fleet: number;
  devices_by_model: Readonly<Record<string, number>>;
  gap: number;
  rounds: number;
  notes: readonly string[];
};

export type Line =
  | { kind: "noted"; message: string }
  | { kind: "planned"; plan: Plan }
  | { kind: "failed"; message: string; field: string };

/** What a line of the stream says; null: nothing. */
export function lineOf(text: string): Line | null {
  return text.trim() === "" ? null : (JSON.parse(text) as Line);
}
