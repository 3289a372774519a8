import { Box, Stack, Text } from "@mantine/core";

import type { Schemas } from "../api/client";
import { rolloutWords, shown, turnoverWords } from "./changes";

const MARKS = {
  added: { sign: "+", colour: "light-dark(#1d6b2e, #69db7c)" },
  removed: { sign: "−", colour: "light-dark(#b02525, #ff8787)" },
  changed: { sign: "~", colour: "light-dark(#7a4a00, #ffd43b)" },
} as const;

/** What differs, field by field, and what it means for workers and traffic. */
export function Differences({
  of,
  inOneStep = false,
}: {
  of: Schemas["DiffView"];
  inOneStep?: boolean;
}) {
  if (of.changes.length === 0) return <Text size="sm">Nothing differs.</Text>;
  const workers = of.workers.map(turnoverWords).filter((words) => words !== "");
  return (
    <Stack gap={6}>
      <Box component="ul" m={0} p={0} className="mono" style={{ listStyle: "none" }}>
        {of.changes.map((change) => {
          const { sign, colour } = MARKS[change.kind];
          return (
            <li key={`${change.kind} ${change.field}`} className="wrap" style={{ color: colour }}>
              {sign} {change.field}: {values(change)}
            </li>
          );
        })}
      </Box>
      <Text size="sm">
        Workers:{" "}
        {workers.length === 0 ? "none is replaced, started or stopped" : workers.join("; ")}.
      </Text>
      {of.rollout !== null && <Text size="sm">{rolloutWords(of.rollout, inOneStep)}</Text>}
    </Stack>
  );
}

function values({ kind, before, after }: Schemas["DiffView"]["changes"][number]): string {
  if (kind === "added") return shown(after);
  if (kind === "removed") return shown(before);
  return `${shown(before)} → ${shown(after)}`;
}
