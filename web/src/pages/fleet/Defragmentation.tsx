import { Button, List, Stack, Table, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import { api, data, type Schemas } from "../../api/client";
import { slotOf } from "../../parts/fleet/fleet";
import { Loaded } from "../../parts/Page";
import { bytes } from "../../parts/quantities";

/** Which workers could move so that whole nodes become empty: thought through when asked. */
export function Defragmentation() {
  const found = useQuery({
    queryKey: ["defragmentation"],
    queryFn: ({ signal }) => data(api.GET("/admin/v1/defragmentation", { signal })),
    enabled: false,
  });
  const asked = found.isFetching || found.isFetched;
  return (
    <section aria-label="Defragmentation">
      <Stack gap="xs" align="flex-start">
        <Title order={2}>Defragmentation</Title>
        <Text size="sm" c="dimmed">
          Which workers could move so that whole nodes become empty. It is a proposal: nothing
          moves.
        </Text>
        <Button
          size="xs"
          variant="default"
          loading={found.isFetching}
          onClick={() => void found.refetch()}
        >
          {found.data === undefined ? "Propose moves" : "Propose anew"}
        </Button>
        {asked && (
          <Loaded of={found} what="a proposal">
            {(proposal) => <Proposal of={proposal} />}
          </Loaded>
        )}
      </Stack>
    </section>
  );
}

function Proposal({ of: { moves, gains } }: { of: Schemas["DefragmentationView"] }) {
  if (gains.length === 0) {
    return <Text size="sm">No node would become empty by moving workers that serve.</Text>;
  }
  return (
    <>
      <List size="sm">
        {gains.map((gain) => (
          <List.Item key={gain}>{gain}</List.Item>
        ))}
      </List>
      <Table.ScrollContainer minWidth={500}>
        <Table verticalSpacing={4} fz="sm" w="auto">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Worker</Table.Th>
              <Table.Th>From</Table.Th>
              <Table.Th>To</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {moves.map((move) => (
              <Table.Tr key={move.worker}>
                <Table.Td>{slotOf(move)}</Table.Td>
                <Table.Td>{move.node}</Table.Td>
                <Table.Td>
                  {move.devices
                    .map((share) => `${share.device}, ${bytes(share.memory_bytes)}`)
                    .join("; ")}
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      <Text size="sm" c="dimmed">
        Draining a node moves its workers, to where the scheduler then finds best.
      </Text>
    </>
  );
}
