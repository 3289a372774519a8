import { Anchor, Group, Stack, Text } from "@mantine/core";
import { Link } from "react-router";

import { bytes, percent } from "../quantities";
import { StateBadge } from "../StateBadge";
import { claimedBytes, colourOf, type FleetWorker, type Index, peers, slotOf } from "./fleet";
import type { Looked } from "./FleetMap";
import { type Marks, NO_MARKS } from "./marks";

const PEERS_SHOWN = 6;

/** What is on a device: who claims how much, who would, and whom they work with. */
export function DeviceNote({
  at: { node, device },
  index,
  marks = NO_MARKS,
}: {
  at: Looked;
  index: Index;
  marks?: Marks;
}) {
  const starts = marks.starts.get(device.id) ?? [];
  return (
    <Stack gap={6} className="num">
      <div>
        <Text fw={600} size="sm" className="wrap">
          {device.id}
        </Text>
        <Text size="xs" c="dimmed">
          {device.model}
          {device.island !== "" && `, island ${device.island}`} of node {node.name}
        </Text>
      </div>
      {device.quarantine !== "" && (
        <Text size="xs" c="red" className="wrap">
          In quarantine, takes nothing new: {device.quarantine}
        </Text>
      )}
      {device.overuse !== "" && (
        <Text size="xs" c="red" className="wrap">
          Overuse: {device.overuse}
        </Text>
      )}
      <Text size="xs">
        {bytes(claimedBytes(device))} of {bytes(device.memory_bytes)} claimed (
        {percent(claimedBytes(device) / device.memory_bytes)}),{" "}
        {device.used_bytes > 0 ? `${bytes(device.used_bytes)} seen in use` : "use not observed"}
      </Text>
      {device.claims.length === 0 && starts.length === 0 && (
        <Text size="xs" c="dimmed">
          Nobody claims any of it.
        </Text>
      )}
      {device.claims.map((claim) => {
        const worker = index.workers.get(claim.worker);
        if (worker === undefined) return null;
        const stop = marks.stops.get(claim.worker);
        return (
          <div key={claim.worker}>
            <Slot of={worker}>
              <StateBadge state={worker.departing ? "draining" : worker.phase} />
            </Slot>
            <Text size="xs" c="dimmed" className="wrap">
              {bytes(claim.memory_bytes)}, {worker.id}
            </Text>
            {stop !== undefined && (
              <Text size="xs" c="red" className="wrap">
                Would {stop.cause === "evicted" ? "be evicted" : "stop"}: {stop.reason}
              </Text>
            )}
            <Peers of={worker} index={index} />
          </div>
        );
      })}
      {starts.map(({ start, memoryBytes }) => (
        <Text key={slotOf(start)} size="xs" c="teal">
          Would start here: {slotOf(start)}, {bytes(memoryBytes)}
        </Text>
      ))}
    </Stack>
  );
}

/** A worker's place in its model, with the model's colour. */
function Slot({ of, children }: { of: FleetWorker; children?: React.ReactNode }) {
  return (
    <Group gap={6} wrap="nowrap">
      <span
        aria-hidden
        style={{ width: 10, height: 10, flexShrink: 0, background: colourOf(of.model) }}
      />
      <Anchor
        component={Link}
        to={`/models/${encodeURIComponent(of.model)}`}
        size="sm"
        className="wrap"
      >
        {slotOf(of)}
      </Anchor>
      {children}
    </Group>
  );
}

function Peers({ of, index }: { of: FleetWorker; index: Index }) {
  const found = peers(index, of);
  if (of.role === "unified") return null;
  const verb = of.role === "prefill" ? "Hands KV to" : "Gets KV from";
  const shown = found
    .slice(0, PEERS_SHOWN)
    .map((peer) => `${peer.role} ${peer.ordinal} (${peer.node})`)
    .join(", ");
  const more = found.length > PEERS_SHOWN ? ` and ${found.length - PEERS_SHOWN} more` : "";
  return (
    <Text size="xs" className="wrap">
      {found.length === 0
        ? `${verb} nobody: its other half is missing.`
        : `${verb} ${shown}${more}`}
    </Text>
  );
}
