import { percent, short } from "../../parts/quantities";
import { type Body, devicesByModel } from "./asked";
import {
  FAMILIES,
  type Family,
  type FrontierPoint,
  type ModelPlan,
  type Plan,
  type Shape,
} from "./plan";

// A plan in words and as curves. Pure.

export const ALL_SERVED = 0.999;

const GAP_TOLD = 0.001;

function many(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? "" : "s"}`;
}

/** "2P:1D TP2/TP4" → "2 prefill workers of 2 devices, 1 decode worker of 4". */
export function shapeWords(label: string): string {
  const alike = /^(\d+)x TP(\d+)$/.exec(label);
  if (alike !== null) {
    return `${many(Number(alike[1]), "worker")} of ${many(Number(alike[2]), "device")}`;
  }
  const pair = /^(\d+)P:(\d+)D TP(\d+)\/TP(\d+)$/.exec(label);
  if (pair === null) return label;
  const [prefills, decodes, first, second] = pair.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
  ];
  return `${many(prefills, "prefill worker")} of ${many(first, "device")}, ${many(decodes, "decode worker")} of ${second}`;
}

export function ms(value_s: number): string {
  return `${short(value_s * 1000)} ms`;
}

/** Both families over the same times per token (s); a gap where no shape is that fast. */
export function curves(points: readonly FrontierPoint[]): {
  times: number[];
  values: Record<Family, (number | null)[]>;
} {
  const times = [...new Set(points.map((point) => point.tpot_s))].sort((a, b) => a - b);
  const values = (family: Family) =>
    times.map((time) => pointAt(points, family, time)?.tokens_per_device ?? null);
  return {
    times,
    values: { aggregated: values("aggregated"), disaggregated: values("disaggregated") },
  };
}

/** What *family* can do within *tpot_s*; nothing where no shape can. */
export function pointAt(
  points: readonly FrontierPoint[],
  family: Family,
  tpot_s: number,
): FrontierPoint | undefined {
  return points.find(
    (point) => point.family === family && point.tpot_s === tpot_s && point.tokens_per_device > 0,
  );
}

/** What the plot shows: each family at what is promised, and which is ahead where. */
export function frontierWords(points: readonly FrontierPoint[], promised_s: number): string {
  const times = [...new Set(points.map((point) => point.tpot_s))].sort((a, b) => a - b);
  const first = times[0];
  if (first === undefined || points.every((point) => point.tokens_per_device === 0)) {
    return "No shape answers within any of these times.";
  }
  const nearest = times.reduce(
    (best, time) => (Math.abs(time - promised_s) < Math.abs(best - promised_s) ? time : best),
    first,
  );
  const there = FAMILIES.map((family) => {
    const point = pointAt(points, family, nearest);
    return point === undefined
      ? `${family} nothing`
      : `${family} ${short(point.tokens_per_device)} tokens/s per device (${point.shape})`;
  });
  return `Within ${ms(nearest)} a token: ${there.join(", ")}. ${leads(points, times)}`;
}

type Lead = Family | "both" | "none";

const LEADS: Record<Lead, string> = {
  aggregated: "aggregated is ahead",
  disaggregated: "disaggregated is ahead",
  both: "both are alike",
  none: "neither is that fast",
};

function leads(points: readonly FrontierPoint[], times: readonly number[]): string {
  const runs: { lead: Lead; from: number; to: number }[] = [];
  for (const time of times) {
    const one = pointAt(points, "aggregated", time)?.tokens_per_device ?? 0;
    const two = pointAt(points, "disaggregated", time)?.tokens_per_device ?? 0;
    const lead: Lead =
      one === two ? (one === 0 ? "none" : "both") : one > two ? "aggregated" : "disaggregated";
    const last = runs.at(-1);
    if (last?.lead === lead) last.to = time;
    else runs.push({ lead, from: time, to: time });
  }
  const told = runs.map(({ lead, from, to }) =>
    from === to ? `at ${ms(from)} ${LEADS[lead]}` : `from ${ms(from)} to ${ms(to)} ${LEADS[lead]}`,
  );
  const text = told.join(", ");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** "3 of 8 H100, 0 of 4 L40S", and what they cost, where that is more than their number. */
export function devicesWords(plan: Plan, asked: Body): string {
  const there = devicesByModel(asked);
  const used = [...there]
    .map(([name, devices]) => `${plan.devices_by_model[name] ?? 0} of ${devices} ${name}`)
    .join(", ");
  return plan.cost === plan.devices ? used : `${used}, at ${short(plan.cost)} an hour`;
}

/** The goodput, and how far from the best the plan may be. */
export function goodputWords(plan: Plan): string {
  const asked = plan.models.reduce((sum, model) => sum + model.requests_per_s, 0);
  const gap =
    plan.gap < GAP_TOLD ? "" : ` A better plan would serve at most ${percent(plan.gap)} more.`;
  return `${short(plan.goodput)} of ${short(asked)} requests/s within their SLO.${gap}`;
}

export function servedTone(model: ModelPlan): "green" | "yellow" | "red" {
  return model.served >= ALL_SERVED ? "green" : model.served > 0 ? "yellow" : "red";
}

/** The shape of this family on this kind of device that is recommended for *model*, if one is. */
export function chosenOf(model: ModelPlan, family: Family, device: string): Shape | undefined {
  return model.shapes.find((shape) => shape.family === family && shape.device_model === device);
}
