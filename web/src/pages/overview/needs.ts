import type { Schemas } from "../../api/client";

// Who needs a person, first.
const NEED: readonly Schemas["ServingState"][] = [
  "unavailable",
  "degraded",
  "starting",
  "rolling",
  "deleting",
  "ready",
  "asleep",
];

/** Models by how much they need somebody; of those alike the busiest first. */
export function inOrderOfNeed(
  models: readonly Schemas["ModelSummary"][],
): Schemas["ModelSummary"][] {
  return [...models].sort(
    (a, b) =>
      NEED.indexOf(a.state) - NEED.indexOf(b.state) ||
      b.rates.requests_per_s - a.rates.requests_per_s ||
      a.name.localeCompare(b.name),
  );
}

/** Where a problem is looked at. */
export function linkOf(problem: Pick<Schemas["ProblemView"], "kind" | "name">): string {
  switch (problem.kind) {
    case "model":
    case "proposal":
      return `/models/${encodeURIComponent(problem.name)}`;
    case "rollout":
      return `/models/${encodeURIComponent(problem.name)}?tab=rollout`;
    case "node":
      return `/fleet?node=${encodeURIComponent(problem.name)}`;
    case "device": // node/device
      return `/fleet?node=${encodeURIComponent(problem.name.replace(/\/[^/]*$/, ""))}`;
    case "controller":
      return "/fleet";
  }
}
