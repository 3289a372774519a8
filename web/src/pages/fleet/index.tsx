import { Group, SegmentedControl, Stack, Text } from "@mantine/core";
import { memo, useCallback, useDeferredValue, useMemo } from "react";
import { useSearchParams } from "react-router";

import { useFleet } from "../../api/queries";
import {
  claimedBytes,
  type Filter,
  type Fleet,
  filtered,
  freeBytes,
  indexed,
} from "../../parts/fleet/fleet";
import { Loaded, Page } from "../../parts/Page";
import { bytes, count, percent } from "../../parts/quantities";
import { useTyped } from "../../parts/typed";
import { Defragmentation } from "./Defragmentation";
import { FleetFilters } from "./FleetFilters";
import { filterOf } from "./filters";
import { NodeDrawer } from "./NodeDrawer";
import { NodeTable } from "./NodeTable";
import { Picture } from "./Picture";
import { Controllers, Owners, Pools } from "./Sharing";

export default function FleetPage() {
  const fleet = useFleet();
  return (
    <Page title="Fleet">
      <Loaded of={fleet} what="the fleet">
        {(value) => <WholeFleet fleet={value} />}
      </Loaded>
      <Controllers />
      <Owners />
      <Pools />
      <Defragmentation />
    </Page>
  );
}

/** Which part of it is shown, how, and which node is open is in the address: it can be sent. */
function WholeFleet({ fleet }: { fleet: Fleet }) {
  const [address, setAddress] = useSearchParams();
  const index = useMemo(() => indexed(fleet), [fleet]);
  const filter = useMemo(() => filterOf(address), [address]);
  const [text, setText] = useTyped("search");
  // What is typed is there at once, what it finds a moment later; the address, which follows later
  // still, changes nothing of that.
  const asked = useDeferredValue(JSON.stringify({ ...filter, text }));
  const nodes = useMemo(
    () => filtered(fleet, index, JSON.parse(asked) as Filter),
    [fleet, index, asked],
  );
  const put = useCallback(
    (key: string, value: string) => {
      setAddress(
        (now) => {
          const next = new URLSearchParams(now);
          if (value === "") next.delete(key);
          else next.set(key, value);
          return next;
        },
        { replace: true },
      );
    },
    [setAddress],
  );
  const open = useCallback(
    (name: string) => {
      put("node", name);
    },
    [put],
  );
  const close = useCallback(() => {
    put("node", "");
  }, [put]);
  const view = address.get("view") === "table" ? "table" : "map";
  return (
    <Stack gap="sm">
      <Sums fleet={fleet} />
      <Group justify="space-between" align="flex-end">
        <FleetFilters text={text} onTyped={setText} filter={filter} index={index} onChange={put} />
        <Views shown={view} onChange={put} />
      </Group>
      <Text size="sm" c="dimmed" className="num" role="status">
        {nodes.length === fleet.nodes.length
          ? count(nodes.length)
          : `${count(nodes.length)} of ${count(fleet.nodes.length)}`}{" "}
        {fleet.nodes.length === 1 ? "node" : "nodes"}
      </Text>
      {view === "map" ? (
        <Picture nodes={nodes} index={index} model={filter.model} onNode={open} />
      ) : (
        <NodeTable nodes={nodes} onNode={open} />
      )}
      <NodeDrawer name={address.get("node")} onClose={close} />
    </Stack>
  );
}

const Views = memo(function Views({
  shown,
  onChange,
}: {
  shown: string;
  onChange: (key: string, value: string) => void;
}) {
  return (
    <SegmentedControl
      aria-label="How the nodes are shown"
      size="xs"
      value={shown}
      onChange={(value) => {
        onChange("view", value === "map" ? "" : value);
      }}
      data={[
        { value: "map", label: "Map" },
        { value: "table", label: "Table" },
      ]}
    />
  );
});

const Sums = memo(function Sums({ fleet }: { fleet: Fleet }) {
  const devices = fleet.nodes.flatMap((node) => node.devices);
  const sum = (of: (device: (typeof devices)[number]) => number) =>
    devices.reduce((total, device) => total + of(device), 0);
  const memory = sum((device) => device.memory_bytes);
  const claimed = sum(claimedBytes);
  const ready = fleet.nodes.filter((node) => node.state === "ready").length;
  const aside = devices.filter((device) => device.quarantine !== "").length;
  return (
    <Text size="sm" className="num">
      {count(ready)} of {count(fleet.nodes.length)} nodes ready · {count(devices.length)} devices
      {aside > 0 && `, ${count(aside)} of them in quarantine`} · {bytes(claimed)} of {bytes(memory)}{" "}
      claimed ({percent(memory === 0 ? null : claimed / memory)}), {bytes(sum(freeBytes))} free ·{" "}
      {count(fleet.workers.length)} workers
    </Text>
  );
});
