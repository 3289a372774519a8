import type { Schemas } from "../../api/client";

// What is wrong with a model, and what to do: from all that the API says of it. Pure.

export type Trouble = {
  severity: Schemas["Severity"];
  sentence: string;
  /** What to do, or what is behind it. */
  what: readonly string[];
};

// Of a condition that the overview does not speak of.
const SEVERITY: Readonly<Record<Schemas["ServingState"], Schemas["Severity"]>> = {
  ready: "info",
  rolling: "info",
  asleep: "info",
  deleting: "info",
  starting: "info",
  degraded: "warning",
  unavailable: "error",
};

/** Of the model's problems the first one also says which of its workers have no place and why. */
export function troubles(
  model: Pick<Schemas["ModelView"], "name" | "state" | "condition" | "no_place">,
  problems: readonly Schemas["ProblemView"][],
): Trouble[] {
  const found = problems
    .filter((problem) => problem.name === model.name && OF_MODEL.includes(problem.kind))
    .map((problem) => ({
      severity: problem.severity,
      sentence: capital(problem.sentence),
      what: [capital(problem.advice)].filter((advice) => advice !== ""),
    }));
  const told = found.some((one) => one.sentence.includes(model.condition));
  if (model.condition !== "" && !told) {
    found.push({ severity: SEVERITY[model.state], sentence: capital(model.condition), what: [] });
  }
  const places = model.no_place.flatMap(unplaced);
  const [first, ...others] = found;
  if (places.length === 0) return found;
  if (first !== undefined) return [{ ...first, what: [...places, ...first.what] }, ...others];
  return [{ severity: "warning", sentence: "Some of its workers have no place.", what: places }];
}

const OF_MODEL: readonly Schemas["ProblemKind"][] = ["model", "rollout"];

/** Workers without a place: on which nodes they find none and why, and what helps. */
function unplaced(item: Schemas["NoPlaceView"]): string[] {
  const many = item.workers.length === 1 ? "1 worker" : `${item.workers.length} workers`;
  const role = item.role === "unified" ? "" : ` ${item.role}`;
  const who = `${item.variant}${role}, ${many}${item.together ? " that go together" : ""}`;
  const waits =
    item.waits_for.length === 0 ? "" : ` waits for ${item.waits_for.join(", ")} to end.`;
  if (waits !== "") return [`${who}:${waits}`];
  return item.why.map((why) => {
    const where = why.node_count === 0 ? "" : `${nodes(why)}: `;
    return `${who}: ${where}${why.sentence}. ${capital(why.advice)}.`;
  });
}

function nodes(why: Schemas["WhyView"]): string {
  const named = why.nodes.slice(0, 3).join(", ");
  const more = why.node_count - Math.min(why.nodes.length, 3);
  return more > 0 ? `${named} and ${more} more` : named;
}

function capital(text: string): string {
  if (text.startsWith("modelyard ")) return text; // a command
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
