import { Group, Paper, Stack, Text } from "@mantine/core";
import { memo, useCallback, useMemo, useState } from "react";

import { DeviceNote } from "../../parts/fleet/DeviceNote";
import { type FleetNode, type Index, links, peers } from "../../parts/fleet/fleet";
import { FleetMap, type Looked } from "../../parts/fleet/FleetMap";
import { Key } from "../../parts/fleet/Key";

const LINKS_MAX = 300;

/** The map, and beside it what is looked at: what was picked stays there until another is. */
export const Picture = memo(function Picture({
  nodes,
  index,
  model,
  onNode,
}: {
  nodes: readonly FleetNode[];
  index: Index;
  /** The model that is asked for: its pairs are linked. */
  model: string;
  onNode: (name: string) => void;
}) {
  const [looked, setLooked] = useState<Looked | null>(null);
  const [picked, setPicked] = useState<Looked | null>(null);
  const pick = useCallback((one: Looked) => {
    setPicked((now) => (now?.device.id === one.device.id ? null : one));
  }, []);
  // What was picked is drawn as it is now.
  const at = useMemo(() => fresh(nodes, looked ?? picked), [nodes, looked, picked]);
  const drawn = useMemo(() => {
    const here = new Set(at?.device.claims.map((claim) => claim.worker));
    return links(index, (one) => (at === null ? one.model === model : here.has(one.id)), LINKS_MAX);
  }, [index, at, model]);
  const near = useMemo(() => {
    if (at !== null) {
      const here = at.device.claims.flatMap(({ worker: id }) => index.workers.get(id) ?? []);
      if (here.length === 0) return null;
      return new Set([...here, ...here.flatMap((one) => peers(index, one))].map((one) => one.id));
    }
    if (model === "") return null;
    return new Set([...index.workers.values()].filter((w) => w.model === model).map((w) => w.id));
  }, [at, index, model]);
  return (
    <Group align="flex-start" gap="md" wrap="wrap">
      <Stack gap="xs" style={{ flex: "1 1 420px", minWidth: 0 }}>
        <FleetMap
          label="Map of the fleet"
          nodes={nodes}
          index={index}
          near={near}
          links={drawn.links}
          picked={picked?.device.id ?? null}
          onLook={setLooked}
          onPick={pick}
          onNode={onNode}
          height="min(60vh, 720px)"
        />
        <Key />
        {drawn.total > LINKS_MAX && (
          <Text size="xs" c="dimmed">
            {LINKS_MAX} of {drawn.total} links are drawn. Point at a device for those of its worker.
          </Text>
        )}
      </Stack>
      <Paper withBorder p="sm" style={{ flex: "0 1 300px", minHeight: 240, minWidth: 240 }}>
        {at === null ? (
          <Text size="sm" c="dimmed">
            Point at a device, or go there by keyboard, to see who claims what of it and whom they
            work with. A click keeps it here. A click on a node&rsquo;s name opens the node.
          </Text>
        ) : (
          <DeviceNote at={at} index={index} />
        )}
      </Paper>
    </Group>
  );
});

function fresh(nodes: readonly FleetNode[], at: Looked | null): Looked | null {
  const node = nodes.find((one) => one.name === at?.node.name);
  const device = node?.devices.find((one) => one.id === at?.device.id);
  return node === undefined || device === undefined ? null : { node, device };
}
