import { Alert, Anchor, Group, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { type ReactNode, useMemo, useState } from "react";
import { Link } from "react-router";

import { useFleet } from "../../api/queries";
import { DeviceNote } from "../../parts/fleet/DeviceNote";
import { type Fleet, indexed, slotOf } from "../../parts/fleet/fleet";
import { FleetMap, type Looked } from "../../parts/fleet/FleetMap";
import { Key } from "../../parts/fleet/Key";
import { marksOf, type Plan, touched } from "../../parts/fleet/marks";
import { NoPlaces } from "../../parts/NoPlaces";
import { Loaded } from "../../parts/Page";
import { bytes, percent } from "../../parts/quantities";
import { headline, isTold, startsWhen } from "./plan";

/** What would come of it, before it is done: in words, drawn on the fleet, and row by row. */
export function PlanPanel({ plan, name }: { plan: Plan; name: string }) {
  const fleet = useFleet();
  const evicted = plan.stops.filter((stop) => stop.cause === "evicted");
  const stops = plan.stops.filter((stop) => stop.cause !== "evicted");
  const said = headline(plan, name);
  return (
    <Stack gap="sm">
      <Alert
        color={said.tone}
        title={said.title}
        role="status"
        styles={{ message: { color: "inherit" } }}
      >
        {said.sentence}
      </Alert>
      {plan.no_place.length > 0 && (
        <Part title="No place">
          <NoPlaces of={plan.no_place} />
        </Part>
      )}
      {plan.starts.length + plan.stops.length > 0 && (
        <Loaded of={fleet} what="the fleet">
          {(found) => <Placements fleet={found} plan={plan} />}
        </Loaded>
      )}
      <Rows
        title="Would start"
        titles={["Worker", "Node", "Devices", "Runtime", "When"]}
        rows={plan.starts.map((start) => [
          slotOf(start),
          start.node,
          start.devices
            .map(
              (share) =>
                `${share.device.slice(share.device.lastIndexOf("/") + 1)} ${bytes(share.memory_bytes)} (${percent(share.share)})`,
            )
            .join(", "),
          start.runtime,
          startsWhen(start),
        ])}
      />
      <Rows
        title="Would be evicted"
        titles={["Worker", "Node", "When", "Why"]}
        rows={evicted.map((stop) => [
          slotOf(stop),
          stop.node,
          stop.at_once ? "now" : "later",
          stop.reason,
        ])}
      />
      <Rows
        title="Would stop"
        titles={["Worker", "Node", "When", "Why"]}
        rows={stops.map((stop) => [
          slotOf(stop),
          stop.node,
          stop.at_once ? "now" : "later",
          stop.reason,
        ])}
      />
      <Rows
        title="Would wait"
        titles={["Model", "Why"]}
        rows={plan.waits.map((wait) => [<Named key="model" model={wait.model} />, wait.reason])}
      />
      <Rows
        title="Would have to stay"
        titles={["Model", "Why"]}
        rows={plan.staying.map((wait) => [<Named key="model" model={wait.model} />, wait.reason])}
      />
      <Rows
        title="Would be reached"
        titles={["Worker", "Address"]}
        rows={plan.external.map((item) => [slotOf(item), item.url])}
      />
      <Rows
        title="Quotas"
        titles={["Owner", "Devices", "Memory"]}
        rows={plan.quotas
          .filter(isTold)
          .map((owner) => [
            owner.owner,
            held(`${owner.devices_now} → ${owner.devices_then}`, owner.devices_quota),
            held(
              `${bytes(owner.memory_bytes_now)} → ${bytes(owner.memory_bytes_then)}`,
              owner.memory_bytes_quota === null ? null : bytes(owner.memory_bytes_quota),
            ),
          ])}
      />
      <Text size="sm" c="dimmed" className="num">
        {plan.kept.length} workers go on as they are. This is a plan: nothing was changed.
      </Text>
    </Stack>
  );
}

function held(now: string, quota: number | string | null): string {
  return quota === null ? `${now}, no limit` : `${now} of ${quota}`;
}

function Named({ model }: { model: string }) {
  return (
    <Anchor component={Link} size="sm" to={`/models/${encodeURIComponent(model)}`}>
      {model}
    </Anchor>
  );
}

function Placements({ fleet, plan }: { fleet: Fleet; plan: Plan }) {
  const index = useMemo(() => indexed(fleet), [fleet]);
  const marks = useMemo(() => marksOf(plan), [plan]);
  const nodes = useMemo(() => touched(fleet, plan), [fleet, plan]);
  const [looked, setLooked] = useState<Looked | null>(null);
  const [picked, setPicked] = useState<Looked | null>(null);
  const at = looked ?? picked;
  const near = useMemo(() => new Set(marks.stops.keys()), [marks]);
  return (
    <Part title="Where">
      <Group align="flex-start" gap="md">
        <Stack gap="xs" style={{ flex: "1 1 320px", minWidth: 0 }}>
          <FleetMap
            label="The nodes on which something would start or stop"
            nodes={nodes}
            index={index}
            marks={marks}
            near={near}
            picked={picked?.device.id ?? null}
            onLook={setLooked}
            onPick={setPicked}
            height={320}
          />
          <Key plan />
        </Stack>
        <Paper withBorder p="sm" style={{ flex: "0 1 300px", minWidth: 240, minHeight: 120 }}>
          {at === null ? (
            <Text size="sm" c="dimmed">
              Point at a device to see who is there now, who would start and who would stop.
            </Text>
          ) : (
            <DeviceNote at={at} index={index} marks={marks} />
          )}
        </Paper>
      </Group>
    </Part>
  );
}

function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title}>
      <Title order={3} size="h5" mb={4}>
        {title}
      </Title>
      {children}
    </section>
  );
}

function Rows({
  title,
  titles,
  rows,
}: {
  title: string;
  titles: readonly string[];
  rows: readonly (readonly ReactNode[])[];
}) {
  if (rows.length === 0) return null;
  return (
    <Part title={title}>
      <Table.ScrollContainer minWidth={420}>
        <Table verticalSpacing={4} fz="sm">
          <Table.Thead>
            <Table.Tr>
              {titles.map((name) => (
                <Table.Th key={name}>{name}</Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {rows.map((row, at) => (
              <Table.Tr key={at}>
                {row.map((cell, column) => (
                  <Table.Td key={column} className="wrap">
                    {cell}
                  </Table.Td>
                ))}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Part>
  );
}
