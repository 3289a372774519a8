import type { Schemas } from "../../api/client";
import type { Plan } from "../../parts/fleet/marks";

// A plan in words. Pure.

export type Headline = { tone: "green" | "yellow" | "red"; title: string; sentence: string };

/** The plan for *name* in a sentence, what matters most first. */
export function headline(plan: Plan, name: string): Headline {
  const evicted = plan.stops.filter((stop) => stop.cause === "evicted");
  const counts = [
    plan.starts.length > 0 && `${plan.starts.length} would start`,
    plan.external.length > 0 && `${plan.external.length} would be reached`,
    plan.stops.length > evicted.length && `${plan.stops.length - evicted.length} would stop`,
    evicted.length > 0 && `${evicted.length} would be evicted (${models(evicted)})`,
    plan.waits.length > 0 && `${models(plan.waits)} would wait`,
    `${plan.kept.length} go on`,
  ].filter((words) => words !== false);
  const sentence = `Of all workers ${counts.join(", ")}.`;
  if (plan.no_place.some((item) => item.model === name)) {
    return { tone: "red", title: `No place for all of ${models(plan.no_place)}`, sentence };
  }
  if (evicted.length > 0) {
    return { tone: "yellow", title: `It fits, at the cost of ${models(evicted)}`, sentence };
  }
  if (plan.no_place.length > 0) {
    return { tone: "yellow", title: `It fits; no place for ${models(plan.no_place)}`, sentence };
  }
  if (plan.waits.length > 0) {
    return { tone: "yellow", title: "It fits, after a wait", sentence };
  }
  return { tone: "green", title: "Everything finds a place", sentence };
}

function models(of: readonly { model: string }[]): string {
  return [...new Set(of.map((item) => item.model))].sort().join(", ");
}

export function startsWhen(start: Schemas["StartView"]): string {
  if (start.asleep) return "asleep, starts when it is asked for";
  if (start.after.length > 0) {
    return `when ${start.after.join(", ")} ${start.after.length > 1 ? "have" : "has"} ended`;
  }
  if (!start.at_once) return "later";
  return start.replaces === "" ? "now" : `now, instead of ${start.replaces}`;
}

/** Whether an owner's part of a plan says something. */
export function isTold(owner: Schemas["OwnerPlanView"]): boolean {
  const hasQuota = owner.devices_quota !== null || owner.memory_bytes_quota !== null;
  return hasQuota || owner.devices_now !== owner.devices_then;
}
