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

/** Who works for a model, and who feeds whom: "2 prefill → 3 decode". */
export function feeding(variants: Schemas["ModelSummary"]["variants"]): string {
  return variants.map(shape).join(" + ");
}

function shape({ roles, engine }: Schemas["ModelSummary"]["variants"][number]): string {
  const wanted = new Map(roles.map((count) => [count.role, count.desired]));
  const prefill = wanted.get("prefill");
  if (prefill !== undefined) return `${prefill} prefill → ${wanted.get("decode") ?? 0} decode`;
  const both = wanted.get("unified") ?? 0;
  if (engine === "openai") return "an external server";
  return `${both} ${both === 1 ? "worker" : "workers"}`;
}

/** What to do, without the reason where the sentence has just said it. */
export function briefly({ advice, sentence }: Pick<Schemas["ProblemView"], "advice" | "sentence">) {
  const [whole = "", reason = ""] = / \((.+)\)(?=: modelyard logs )/.exec(advice) ?? [];
  return reason !== "" && sentence.includes(reason) ? advice.replace(whole, "") : advice;
}
