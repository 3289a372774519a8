import { Stack, Text } from "@mantine/core";

import type { Schemas } from "../api/client";
import { bytes } from "./quantities";

const NODES_NAMED = 3;
const WORKERS_NAMED = 6;

/** What has no place, why on which nodes, and what would help: the API's own words. */
export function NoPlaces({ of }: { of: readonly Schemas["NoPlaceView"][] }) {
  return (
    <Stack gap="sm">
      {of.map((item) => (
        <div key={`${item.model}/${item.variant}/${item.role}/${item.ordinal}`}>
          <Text size="sm" fw={600} className="wrap">
            {item.model}
            {item.variant === "default" ? "" : `/${item.variant}`}: {named(item.workers)}
            {item.together && " (together or not at all)"}
          </Text>
          <Text size="sm" c="dimmed">
            {item.role} {item.ordinal} needs {item.devices} device{item.devices > 1 ? "s" : ""}
            {item.memory_bytes === 0 ? ", whole" : ` with ${bytes(item.memory_bytes)}`}; priority{" "}
            {item.priority}, owner {item.owner}
          </Text>
          {item.waits_for.length > 0 && (
            <Text size="sm" className="wrap">
              Its place comes when {item.waits_for.join(", ")} ended.
            </Text>
          )}
          <ul style={{ margin: "2px 0", paddingLeft: 20 }}>
            {item.why.length === 0 && (
              <Text component="li" size="sm" children="There is no node." />
            )}
            {item.why.map((why) => (
              <Text component="li" size="sm" key={why.sentence} className="wrap">
                {where(why)}
                {why.sentence}
                <Text span display="block" c="dimmed" size="sm">
                  → {why.advice}
                </Text>
              </Text>
            ))}
          </ul>
        </div>
      ))}
    </Stack>
  );
}

function where({ node_count: total, nodes }: Schemas["WhyView"]): string {
  if (total === 0) return "";
  const more = total > NODES_NAMED ? `, … (${total} nodes)` : "";
  return `${nodes.slice(0, NODES_NAMED).join(", ")}${more}: `;
}

function named(workers: readonly string[]): string {
  const more = workers.length - WORKERS_NAMED;
  const shown = workers.slice(0, WORKERS_NAMED).join(", ");
  return more > 0 ? `${shown} and ${more} more` : shown;
}
