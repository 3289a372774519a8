import { Badge } from "@mantine/core";

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

export function StateBadge({ state }: { state: string }) {
  const word = state.replaceAll(/[_-]/g, " ");
  return (
    <Badge
      color={COLOURS[word] ?? "gray"}
      variant="light"
      tt="none"
      miw="max-content"
      style={{ verticalAlign: "middle" }}
    >
      {word}
    </Badge>
  );
}
