import type { Schemas } from "../api/client";
import { seconds } from "./quantities";

// What differs between two specs, in the words of `modelyard diff`. Pure.

const VALUE_CHARS_MAX = 200;

/** A value on one line; texts without quotes unless they would be invisible. */
export function shown(value: unknown): string {
  const isPlain = typeof value === "string" && value !== "" && value.trim() === value;
  const text = isPlain ? value : JSON.stringify(value);
  return text.length <= VALUE_CHARS_MAX ? text : `${text.slice(0, VALUE_CHARS_MAX - 1)}…`;
}

/** "default decode: 2 replaced, 1 started (3 go on)"; "" where all go on. */
export function turnoverWords(of: Schemas["Turnover"]): string {
  const parts = (["replaced", "started", "stopped"] as const)
    .filter((word) => of[word] > 0)
    .map((word) => `${of[word]} ${word}`);
  if (parts.length === 0) return "";
  const rest = of.kept > 0 ? ` (${of.kept} go on)` : "";
  return `${of.variant} ${of.role}: ${parts.join(", ")}${rest}`;
}

/** How a change would reach the traffic, in a sentence. *inOneStep*: whatever the spec says. */
export function rolloutWords(coming: Schemas["ComingRolloutView"], inOneStep: boolean): string {
  if (!coming.changes_workers) {
    return `No rollout is needed: revision ${coming.to_revision} counts at once.`;
  }
  const from = `moves from revision ${coming.from_revision}`;
  const after =
    coming.supersedes > 0 ? ` The rollout under way to revision ${coming.supersedes} ends.` : "";
  if (inOneStep || (coming.canary.length === 1 && !coming.gate)) {
    return `All of the traffic ${from} in one step.${after}`;
  }
  const steps = coming.canary.map((percent) => `${percent} %`).join(" → ");
  const led =
    coming.promote === "manual"
      ? ", each led on by somebody"
      : coming.pause_s > 0
        ? `, each for ${seconds(coming.pause_s)} at least`
        : "";
  const gate = coming.gate ? ", if the gate holds" : "";
  return `The traffic ${from} in steps of ${steps}${led}${gate}.${after}`;
}
