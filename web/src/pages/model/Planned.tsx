import { Alert, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import type { Schemas } from "../../api/client";
import { Differences } from "../../parts/Differences";
import { Loaded } from "../../parts/Page";

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
  if (!of.changed || diff === null) {
    return <Text c="dimmed">The spec says so already: nothing would change.</Text>;
  }
  return (
    <>
      <Differences of={diff} />
      {of.warnings.map((warning) => (
        <Alert key={warning} color="yellow">
          {warning}
        </Alert>
      ))}
    </>
  );
}
