import type { Schemas } from "../../api/client";
import { percent, seconds } from "../../parts/quantities";

// How far a rollout is, and what its gate allows, in words. Pure.

const UNDER_WAY: readonly Schemas["RolloutState"][] = ["progressing", "paused", "stalled"];

export function isUnderWay(state: Schemas["RolloutState"]): boolean {
  return UNDER_WAY.includes(state);
}

export type Step = { label: string; state: "done" | "now" | "to come"; percent: number };

/** Its steps, the one before the first (its workers get ready) among them. */
export function stepsOf(rollout: Schemas["RolloutView"]): Step[] {
  const over = rollout.state === "done";
  const state = (index: number): Step["state"] => {
    if (over || index < rollout.step) return "done";
    return index === rollout.step && isUnderWay(rollout.state) ? "now" : "to come";
  };
  return [
    { label: "workers get ready", state: state(0), percent: 0 },
    ...rollout.steps.map((share, index): Step => {
      return { label: `${share} % of the traffic`, state: state(index + 1), percent: share };
    }),
  ];
}

export type Measure = { name: string; old: string; new: string; allowed: string };

/** The numbers of both revisions since the step began, with what the gate allows the new one. */
export function measures(rollout: Schemas["RolloutView"]): Measure[] {
  const { old, new: fresh, gate } = rollout;
  const times = (ratio: number | undefined, of: number | null) => {
    if (ratio === undefined) return "";
    return `${ratio} times the old one${of === null ? "" : ` (${seconds(ratio * of)})`}`;
  };
  return [
    { name: "Traffic", old: `${old.percent} %`, new: `${fresh.percent} %`, allowed: "" },
    { name: "Workers ready", old: ready(old), new: ready(fresh), allowed: "" },
    {
      name: "Requests in this step",
      old: String(old.requests),
      new: String(fresh.requests),
      allowed: gate === null ? "" : `${gate.requests_min} at least`,
    },
    {
      name: "Errors",
      old: percent(old.error_rate),
      new: percent(fresh.error_rate),
      allowed: gate === null ? "" : `${percent(gate.error_rate_max)} more than the old one`,
    },
    {
      name: "TTFT, median",
      old: seconds(old.ttft_s),
      new: seconds(fresh.ttft_s),
      allowed: times(gate?.ttft_ratio_max, old.ttft_s),
    },
    {
      name: "TPOT, median",
      old: seconds(old.tpot_s),
      new: seconds(fresh.tpot_s),
      allowed: times(gate?.tpot_ratio_max, old.tpot_s),
    },
  ];
}

function ready(side: Schemas["RolledSide"]): string {
  const parts = side.roles.map((role) => {
    const name = role.role === "unified" ? role.variant : `${role.variant} ${role.role}`;
    return `${role.ready} of ${role.wanted} ${name}`;
  });
  return parts.join(", ") || "–";
}
