import { Anchor } from "@mantine/core";
import { memo, useMemo } from "react";

import { Ago } from "../../parts/Ago";
import { claimedBytes, type FleetNode, freeBytes, troubles } from "../../parts/fleet/fleet";
import { bytes } from "../../parts/quantities";
import { StateBadge } from "../../parts/StateBadge";
import { type Column, VirtualTable } from "../../parts/VirtualTable";

/** The same as the map for keyboards, screen readers and those who want numbers. */
export const NodeTable = memo(function NodeTable({
  nodes,
  onNode,
}: {
  nodes: readonly FleetNode[];
  onNode: (name: string) => void;
}) {
  const columns = useMemo((): Column<FleetNode>[] => {
    const sum = (node: FleetNode, of: (device: FleetNode["devices"][number]) => number) =>
      bytes(node.devices.reduce((total, device) => total + of(device), 0));
    return [
      {
        key: "name",
        title: "Node",
        width: "minmax(140px, 2fr)",
        render: (node) => (
          <Anchor
            component="button"
            type="button"
            size="sm"
            onClick={() => {
              onNode(node.name);
            }}
          >
            {node.name}
          </Anchor>
        ),
      },
      {
        key: "state",
        title: "State",
        width: "110px",
        render: (node) => <StateBadge state={node.state} />,
      },
      {
        key: "devices",
        title: "Devices",
        width: "minmax(150px, 2fr)",
        render: (node) => `${node.devices.length} × ${node.devices[0]?.model ?? "none"}`,
      },
      {
        key: "workers",
        title: "Workers",
        width: "90px",
        align: "right",
        render: (node) =>
          new Set(node.devices.flatMap((device) => device.claims.map((claim) => claim.worker)))
            .size,
      },
      {
        key: "claimed",
        title: "Claimed",
        width: "100px",
        align: "right",
        render: (node) => sum(node, claimedBytes),
      },
      {
        key: "used",
        title: "In use",
        width: "100px",
        align: "right",
        render: (node) =>
          node.devices.some((device) => device.used_bytes > 0)
            ? sum(node, (device) => device.used_bytes)
            : "–",
      },
      {
        key: "free",
        title: "Free",
        width: "100px",
        align: "right",
        render: (node) => sum(node, freeBytes),
      },
      {
        key: "trouble",
        title: "Wrong",
        width: "minmax(90px, 1fr)",
        render: (node) => troubles(node).join(", "),
      },
      {
        key: "seen",
        title: "Seen",
        width: "110px",
        render: (node) => <Ago at={node.last_seen_at} />,
      },
    ];
  }, [onNode]);
  return (
    <VirtualTable
      label="Nodes"
      columns={columns}
      rows={nodes}
      rowKey={(node) => node.name}
      empty="No node is like that."
      height="60vh"
    />
  );
});
