import { Alert, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import type { Schemas } from "../../api/client";
import { Loaded } from "../../parts/Page";
import { seconds } from "../../parts/quantities";
import { Differences } from "./Differences";

/** What a write would do, asked of the API before it is done. */
export function Planned({
  what,
  intro,
  dry,
}: {
  /** Tells this write from others. */
  what: readonly unknown[];
  intro: string;
  dry: () => Promise<Schemas["AppliedView"]>;
}) {
  const asked = useQuery({ queryKey: ["dry", ...what], queryFn: dry, gcTime: 0, retry: false });
  return (
    <Stack gap="sm">
      <Text>{intro}</Text>
      <Loaded of={asked} what="what it would do">
        {(would) => <Would of={would} />}
      </Loaded>
    </Stack>
  );
}

function Would({ of }: { of: Schemas["AppliedView"] }) {
  const { diff } = of;
  if (!of.changed || diff === null || diff === undefined) {
    return <Text c="dimmed">The spec says so already: nothing would change.</Text>;
  }
  return (
    <>
      <Differences of={diff} />
      {diff.rollout !== null && <Text size="sm">{rolloutWords(diff.rollout)}</Text>}
      {of.warnings.map((warning) => (
        <Alert key={warning} color="yellow">
          {warning}
        </Alert>
      ))}
    </>
  );
}

/** How the change would reach the traffic, in a sentence. */
function rolloutWords(coming: Schemas["ComingRolloutView"]): string {
  if (!coming.changes_workers) return `Revision ${coming.to_revision} counts at once.`;
  const steps = coming.canary.map((percent) => `${percent} %`).join(", then ");
  const pause = coming.pause_s > 0 ? `, each for ${seconds(coming.pause_s)} at least` : "";
  const gate = coming.gate ? ", as long as it does as well as the old one" : "";
  const by = coming.promote === "manual" ? ", from step to step when somebody resumes it" : "";
  const instead =
    coming.supersedes > 0
      ? ` It takes the place of the rollout to revision ${coming.supersedes}.`
      : "";
  return `Revision ${coming.to_revision} takes ${steps} of the traffic${pause}${gate}${by}.${instead}`;
}
