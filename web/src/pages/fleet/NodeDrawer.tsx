import { Alert, Anchor, Drawer, Group, Progress, Stack, Table, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { memo, useState } from "react";
import { Link } from "react-router";

import { api, data, type Schemas } from "../../api/client";
import { Action } from "../../parts/Action";
import { Ago } from "../../parts/Ago";
import { slotOf } from "../../parts/fleet/fleet";
import { NoPlaces } from "../../parts/NoPlaces";
import { Loaded } from "../../parts/Page";
import { bytes, seconds } from "../../parts/quantities";
import { StateBadge } from "../../parts/StateBadge";
import { Facts } from "../../parts/VirtualTable";

/** One node: what it is, who is on it, how far its drain has come, and what can be done with it. */
export const NodeDrawer = memo(function NodeDrawer({
  name,
  onClose,
}: {
  name: string | null;
  onClose: () => void;
}) {
  return (
    <Drawer
      opened={name !== null && name !== ""}
      onClose={onClose}
      position="right"
      size="xl"
      title={`Node ${name ?? ""}`}
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {name !== null && name !== "" && <NodeOf key={name} name={name} onForgotten={onClose} />}
    </Drawer>
  );
});

function NodeOf({ name, onForgotten }: { name: string; onForgotten: () => void }) {
  const page = useQuery({
    queryKey: ["node", name],
    queryFn: () => data(api.GET("/admin/v1/nodes/{name}", { params: { path: { name } } })),
    refetchInterval: 2000,
  });
  return (
    <Loaded of={page} what={`node ${name}`}>
      {(found) => <Whole page={found} onForgotten={onForgotten} />}
    </Loaded>
  );
}

function Whole({ page, onForgotten }: { page: Schemas["NodePage"]; onForgotten: () => void }) {
  const { node, workers } = page;
  return (
    <Stack>
      <Actions page={page} onForgotten={onForgotten} />
      {node.state === "draining" && <Drain page={page} />}
      {node.state === "unknown" && (
        <Alert color="red" title="It does not report">
          Its machine or its agent may be down. Its workers count as lost after a while and are
          placed elsewhere; if it never comes back, forget it.
        </Alert>
      )}
      <Facts
        of={[
          ["State", <StateBadge key="state" state={node.state} />],
          ["Address", node.address],
          ["Last seen", <Ago key="seen" at={node.last_seen_at} />],
          [
            "Labels",
            Object.entries(node.labels)
              .map(([key, value]) => `${key}=${value}`)
              .join(", ") || "none",
          ],
          ["Runtimes", node.runtimes.join(", ") || "none"],
          ["Weights there", node.sources.join("\n") || "none"],
        ]}
      />
      <Title order={2}>Devices</Title>
      <Devices of={node.devices} />
      <Title order={2}>Workers</Title>
      <Workers of={workers} />
      {Object.entries(page.conditions).map(([model, condition]) => (
        <Text key={model} size="sm" className="wrap">
          <Anchor component={Link} to={`/models/${encodeURIComponent(model)}`}>
            {model}
          </Anchor>
          : {condition}
        </Text>
      ))}
      {page.no_place.length > 0 && (
        <>
          <Title order={2}>What has no place here</Title>
          <NoPlaces of={page.no_place} />
        </>
      )}
    </Stack>
  );
}

function Actions({ page, onForgotten }: { page: Schemas["NodePage"]; onForgotten: () => void }) {
  const { node, workers } = page;
  const params = { params: { path: { name: node.name } } };
  const aside = node.state === "cordoned" || node.state === "draining";
  return (
    <Group gap="xs">
      {aside ? (
        <Action
          label="Uncordon"
          done={`Node ${node.name} takes workers again.`}
          act={() => data(api.POST("/admin/v1/nodes/{name}/uncordon", params))}
        />
      ) : (
        <Action
          label="Cordon"
          done={`Node ${node.name} gets no new workers.`}
          act={() => data(api.POST("/admin/v1/nodes/{name}/cordon", params))}
        />
      )}
      <Action
        label="Drain"
        color="orange"
        disabled={node.state === "draining" ? "It is being drained already." : null}
        ask={
          <>
            Node <b>{node.name}</b> gets no new workers, and its {workers.length} move to other
            nodes, each once its successor there is ready. Uncordon takes it back.
          </>
        }
        done={`Node ${node.name} is draining.`}
        act={() => data(api.POST("/admin/v1/nodes/{name}/drain", params))}
      />
      <Action
        label="Forget"
        color="red"
        disabled={
          node.state === "unknown"
            ? null
            : "It reports. Only a node that does not, and has no worker, can be forgotten."
        }
        ask={
          <>
            Node <b>{node.name}</b> is taken out of the registry. If its machine comes back, it
            joins as a new one.
          </>
        }
        done={`Node ${node.name} is forgotten.`}
        act={async () => {
          await data(api.DELETE("/admin/v1/nodes/{name}", params));
          onForgotten();
        }}
      />
    </Group>
  );
}

/** How many of those that were there when this was opened have left. */
function Drain({ page: { node, workers, conditions } }: { page: Schemas["NodePage"] }) {
  const [most, setMost] = useState(workers.length);
  if (workers.length > most) setMost(workers.length);
  const left = workers.length;
  const stay = Object.values(conditions).length;
  return (
    <Alert
      color={left === 0 ? "green" : "yellow"}
      title={left === 0 ? "Drained" : `Draining: ${left} of ${most} workers are left`}
    >
      <Progress
        value={most === 0 ? 100 : (100 * (most - left)) / most}
        aria-label={`How much of node ${node.name} is drained`}
        mb={6}
      />
      {left === 0
        ? "No worker is left on it."
        : stay > 0
          ? "What holds workers here is said below, by their models."
          : "Each goes once its successor elsewhere is ready."}
    </Alert>
  );
}

function Devices({ of }: { of: Schemas["NodeView"]["devices"] }) {
  return (
    <Table.ScrollContainer minWidth={420}>
      <Table verticalSpacing={4} fz="sm">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Device</Table.Th>
            <Table.Th ta="right">Memory</Table.Th>
            <Table.Th ta="right">Claimed</Table.Th>
            <Table.Th ta="right">In use</Table.Th>
            <Table.Th ta="right">Free</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {of.map((device) => (
            <Table.Tr key={device.id}>
              <Table.Td className="wrap">
                {device.id} {device.model}
                {[device.quarantine, device.overuse]
                  .filter((words) => words !== "")
                  .map((words) => (
                    <Text key={words} size="xs" c="red">
                      {words}
                    </Text>
                  ))}
              </Table.Td>
              <Table.Td ta="right">{bytes(device.memory_bytes)}</Table.Td>
              <Table.Td ta="right">{bytes(device.claimed_bytes)}</Table.Td>
              <Table.Td ta="right">
                {device.used_bytes > 0 ? bytes(device.used_bytes) : "–"}
              </Table.Td>
              <Table.Td ta="right">{bytes(device.free_bytes)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

function Workers({ of }: { of: readonly Schemas["WorkerView"][] }) {
  if (of.length === 0) return <Text c="dimmed">No worker is on it.</Text>;
  return (
    <Table.ScrollContainer minWidth={420}>
      <Table verticalSpacing={4} fz="sm">
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Worker</Table.Th>
            <Table.Th>Phase</Table.Th>
            <Table.Th>Devices</Table.Th>
            <Table.Th ta="right">Age</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {of.map((worker) => (
            <Table.Tr key={worker.id}>
              <Table.Td className="wrap">
                <Anchor
                  component={Link}
                  to={`/models/${encodeURIComponent(worker.model)}`}
                  size="sm"
                >
                  {slotOf(worker)}
                </Anchor>
                {worker.reason !== "" && (
                  <Text size="xs" c="dimmed">
                    {worker.reason}
                  </Text>
                )}
              </Table.Td>
              <Table.Td>
                <StateBadge state={worker.phase} />
                {worker.departing && (
                  <Text size="xs" c="dimmed">
                    goes when its successor is ready
                  </Text>
                )}
              </Table.Td>
              <Table.Td>
                {worker.devices.map((id) => id.slice(id.lastIndexOf("/") + 1)).join(", ")}
              </Table.Td>
              <Table.Td ta="right">{seconds(worker.age_s)}</Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
