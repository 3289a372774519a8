import type { Schemas } from "../../api/client";

// What is wrong with a model, and what to do: from all that the API says of it. Pure.

export type Trouble = {
  severity: Schemas["Severity"];
  sentence: string;
  /** What to do, or what is behind it. */
  what: readonly string[];
};

const SERVES: readonly Schemas["ServingState"][] = ["ready", "rolling", "asleep", "degraded"];

export function troubles(
  model: Pick<Schemas["ModelView"], "name" | "state" | "condition" | "no_place">,
  problems: readonly Schemas["ProblemView"][],
): Trouble[] {
  const found = problems
    .filter(
      (problem) =>
        problem.name === model.name && (problem.kind === "model" || problem.kind === "rollout"),
    )
    .map((problem): Trouble => {
      return {
        severity: problem.severity,
        sentence: problem.sentence,
        what: advised(problem.advice),
      };
    });
  if (model.condition !== "" && !found.some((one) => one.sentence.includes(model.condition))) {
    const severity = SERVES.includes(model.state) ? "warning" : "error";
    found.push({ severity, sentence: model.condition, what: [] });
  }
  return [...found, ...model.no_place.map((item) => unplaced(item, SERVES.includes(model.state)))];
}

function advised(advice: string): string[] {
  return advice === "" ? [] : [advice];
}

/** Workers without a place: on which nodes they find none and why, and what helps. */
function unplaced(item: Schemas["NoPlaceView"], serves: boolean): Trouble {
  const many = item.workers.length;
  const workers = many === 1 ? "1 worker" : `${many} workers`;
  const together = item.together ? ", which go together," : "";
  const verb = many === 1 ? "has" : "have";
  return {
    severity: item.waits_for.length > 0 ? "info" : serves ? "warning" : "error",
    sentence: `${workers} of ${item.variant}${together} ${verb} no place${
      item.waits_for.length > 0 ? ` yet: ${item.waits_for.join(", ")} must end first` : ""
    }.`,
    what: item.why.map((why) => {
      const where = why.node_count === 0 ? "" : ` (${nodes(why)})`;
      return `${why.sentence}${where}. ${why.advice}`;
    }),
  };
}

function nodes(why: Schemas["WhyView"]): string {
  const named = why.nodes.slice(0, 3).join(", ");
  const more = why.node_count - Math.min(why.nodes.length, 3);
  return more > 0 ? `${named} and ${more} more` : named;
}
