import { Stack, Table, Text } from "@mantine/core";

import type { Schemas } from "../../api/client";
import { shown, turnoverWords } from "./words";

/** What differs between two specs, field by field, and what it means for workers. */
export function Differences({ of }: { of: Schemas["DiffView"] }) {
  const workers = of.workers.map(turnoverWords).filter((words) => words !== "");
  if (of.changes.length === 0) return <Text c="dimmed">They are the same.</Text>;
  return (
    <Stack gap="sm">
      <Table verticalSpacing={4} layout="fixed">
        <Table.Thead>
          <Table.Tr>
            <Table.Th w="40%">Field</Table.Th>
            <Table.Th>Before</Table.Th>
            <Table.Th>After</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {of.changes.map((change) => (
            <Table.Tr key={change.field}>
              <Table.Td className="mono wrap">{change.field}</Table.Td>
              <Table.Td className="mono wrap">{shown(change.before)}</Table.Td>
              <Table.Td className="mono wrap">{shown(change.after)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <Text size="sm">
        {workers.length === 0 ? "No worker is touched." : `Workers: ${workers.join("; ")}.`}
      </Text>
    </Stack>
  );
}
