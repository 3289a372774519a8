import "./StateBadge.css";

import type { CSSProperties } from "react";

/** Of models, variants, workers, nodes, rollouts: one word, one colour, the same everywhere. */
const COLOURS: Record<string, string> = {
  ready: "green",
  succeeded: "green",
  done: "green",
  rolling: "blue",
  progressing: "blue",
  starting: "blue",
  preparing: "blue",
  assigned: "blue",
  waking: "blue",
  asleep: "indigo",
  "falling asleep": "indigo",
  degraded: "yellow",
  draining: "yellow",
  cordoned: "yellow",
  paused: "yellow",
  stalled: "red",
  "rolled back": "red",
  superseded: "gray",
  stopping: "gray",
  stopped: "gray",
  deleting: "gray",
  unavailable: "red",
  failed: "red",
  lost: "red",
  aborted: "red",
};

const DRESSES = new Map<string, CSSProperties>(
  [...new Set([...Object.values(COLOURS), "gray"])].map((colour) => [
    colour,
    {
      color: `var(--mantine-color-${colour}-light-color)`,
      backgroundColor: `var(--mantine-color-${colour}-light)`,
    },
  ]),
);

export function StateBadge({ state }: { state: string }) {
  const word = state.replaceAll(/[_-]/g, " ");
  return (
    <span className="state" style={DRESSES.get(COLOURS[word] ?? "gray")}>
      {word}
    </span>
  );
}
