import { Alert, Button, Group, Stack } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";

import { api, data, type Schemas } from "../../api/client";
import { Ago } from "../../parts/Ago";
import { Differences } from "../../parts/Differences";
import { Loaded } from "../../parts/Page";
import { useNewest } from "./checks";

/** Somebody changed the model since its text was loaded: who, what, and how to go on. */
export function Meanwhile({
  model,
  from,
  onLoad,
  onKeep,
}: {
  model: Schemas["ModelView"];
  /** The revision that the text began with. */
  from: number;
  onLoad: () => void;
  onKeep: () => void;
}) {
  const { name, revision } = model;
  const newest = useNewest(name, revision, true);
  const [shows, { toggle }] = useDisclosure(false);
  const differences = useQuery({
    queryKey: ["diff", name, from, revision],
    queryFn: () =>
      data(
        api.GET("/admin/v1/models/{name}/diff", {
          params: { path: { name }, query: { from, to: revision } },
        }),
      ),
    enabled: shows,
  });
  const who = newest.data?.created_by_name || newest.data?.created_by || "somebody";
  return (
    <Alert color="yellow" title={`${who} changed ${name} meanwhile`} role="alert">
      <Stack gap="xs">
        <span className="wrap">
          Your text began with revision {from}; {revision} is the newest
          {newest.data !== undefined && newest.data !== null && (
            <>
              , made <Ago at={newest.data.created_at} />: {newest.data.changes}
            </>
          )}
          . Applying yours as it is would undo what it does not have.
        </span>
        <Group gap="xs">
          <Button size="xs" variant="default" onClick={toggle} aria-expanded={shows}>
            {shows ? "Hide what changed" : "Show what changed"}
          </Button>
          <Button size="xs" variant="default" onClick={onLoad}>
            Load theirs, drop mine
          </Button>
          <Button size="xs" variant="default" onClick={onKeep}>
            Keep mine, against theirs
          </Button>
        </Group>
        {shows && (
          <Loaded of={differences} what="what changed">
            {(found) => <Differences of={found} />}
          </Loaded>
        )}
      </Stack>
    </Alert>
  );
}
