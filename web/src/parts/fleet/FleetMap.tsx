import "./fleet.css";

import { Text } from "@mantine/core";
import { useElementSize, useMergedRef } from "@mantine/hooks";
import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type CSSProperties,
  type KeyboardEvent,
  memo,
  type SyntheticEvent,
  useMemo,
  useRef,
} from "react";

import { bytes } from "../quantities";
import {
  claimedBytes,
  type FleetDevice,
  type FleetNode,
  type Index,
  type Link,
  shortId,
  slotOf,
} from "./fleet";
import { filling } from "./filling";
import { CARD, CARD_WIDTH, CELL, layout, spots } from "./layout";
import { type Marks, NO_MARKS, stacked } from "./marks";

/** More than so many are drawn fainter, to be seen through. */
const LINKS_FEW = 40;

export type Looked = { node: FleetNode; device: FleetDevice };

/**
 * Nodes as cards and devices as cells, of which only what is on screen is in the page. A cell is
 * filled from below by what is claimed, in the colours of the models; the line across it is what
 * was seen in use. *near* are the workers to be seen first: all others are dimmed.
 */
export function FleetMap({
  label,
  nodes,
  index,
  marks = NO_MARKS,
  near,
  links = [],
  picked,
  onLook,
  onPick,
  onNode,
  height,
}: {
  label: string;
  nodes: readonly FleetNode[];
  index: Index;
  marks?: Marks;
  near: ReadonlySet<string> | null;
  links?: readonly Link[];
  /** A device's id. */
  picked: string | null;
  /** The pointer or the focus is on a device, or has left it. */
  onLook: (at: Looked | null) => void;
  onPick: (at: Looked) => void;
  onNode?: (name: string) => void;
  height: number | string;
}) {
  const scroller = useRef<HTMLDivElement>(null);
  const { ref: measured, width } = useElementSize();
  const ref = useMergedRef(scroller, measured);
  const drawn = useMemo(() => layout(nodes, width), [nodes, width]);
  const places = useMemo(() => (links.length === 0 ? null : spots(drawn)), [drawn, links.length]);
  // eslint-disable-next-line react-hooks/incompatible-library -- the virtualizer keeps its own state
  const virtual = useVirtualizer({
    count: drawn.rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: (at) => (drawn.rows[at]?.height ?? 0) + CARD.gap,
    overscan: 1, // a row is dozens of devices
  });
  if (nodes.length === 0) return <Text c="dimmed">No node is like that.</Text>;
  return (
    <div
      ref={ref}
      className="fleet-map"
      data-dims={near !== null || undefined}
      style={{
        maxHeight: height,
        height: drawn.height + 4,
        // Said once, not for each of hundreds.
        ...({
          "--cell-width": `${CELL.width}px`,
          "--cell-height": `${CELL.height}px`,
          "--cell-gap": `${CELL.gap}px`,
        } as CSSProperties),
      }}
      role="region"
      aria-label={label}
      // A scrolled region has to be reachable by keyboard.
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
      tabIndex={0}
      onMouseLeave={() => {
        onLook(null);
      }}
    >
      <div style={{ height: drawn.height, position: "relative" }}>
        {virtual.getVirtualItems().map((item) => {
          const row = drawn.rows[item.index];
          if (row === undefined) return null;
          return (
            <div
              key={item.key}
              className="fleet-row"
              style={{ transform: `translateY(${row.top}px)`, gap: CARD.gap }}
            >
              {row.nodes.map((node) => (
                <NodeCard
                  key={node.name}
                  node={node}
                  height={row.height}
                  index={index}
                  marks={marks}
                  near={nearOn(node, near)}
                  picked={node.devices.some((device) => device.id === picked) ? picked : null}
                  onLook={onLook}
                  onPick={onPick}
                  onNode={onNode}
                />
              ))}
            </div>
          );
        })}
        {places !== null && (
          <svg
            className="fleet-links"
            data-many={links.length > LINKS_FEW || undefined}
            width={width}
            height={drawn.height}
            aria-hidden
          >
            {links.map(({ from, to }, at) => {
              const start = places.get(from.id);
              const end = places.get(to.id);
              if (start === undefined || end === undefined) return null;
              const bend = Math.max(24, Math.abs(end.y - start.y) / 3);
              return (
                <g key={at}>
                  <path
                    d={`M${start.x} ${start.y} C${start.x} ${start.y + bend} ${end.x} ${end.y - bend} ${end.x} ${end.y}`}
                  />
                  <circle cx={end.x} cy={end.y} r={3} />
                </g>
              );
            })}
          </svg>
        )}
      </div>
    </div>
  );
}

const NodeCard = memo(function NodeCard({
  node,
  height,
  index,
  marks,
  near,
  picked,
  onLook,
  onPick,
  onNode,
}: {
  node: FleetNode;
  height: number;
  index: Index;
  marks: Marks;
  /** The devices, by index, that are not dimmed; a text, so that a card that has the same stays. */
  near: string;
  picked: string | null;
  onLook: (at: Looked | null) => void;
  onPick: (at: Looked) => void;
  onNode: ((name: string) => void) | undefined;
}) {
  const bright = near.split(" ");
  const look = (event: SyntheticEvent) => {
    const device = deviceAt(node, event);
    if (device !== undefined) onLook({ node, device });
  };
  return (
    <div
      className="fleet-card"
      style={{ width: CARD_WIDTH, height, padding: CARD.padding }}
      role="group"
      aria-label={`Node ${node.name}`}
    >
      <button
        type="button"
        className="fleet-node"
        style={{ height: CARD.header }}
        title={`${node.name}, ${node.state}`}
        aria-label={`Node ${node.name}, ${node.state}: show it`}
        disabled={onNode === undefined}
        onClick={() => onNode?.(node.name)}
      >
        <b>{node.name}</b>
        {node.state !== "ready" && (
          <span className={node.state === "unknown" ? "fleet-bad" : "fleet-aside"}>
            {node.state}
          </span>
        )}
      </button>
      <div
        className="fleet-devices"
        role="toolbar"
        aria-label={`Devices of ${node.name}`}
        // Of a card's devices one is a stop of the tab key; arrows lead to the others.
        onKeyDown={moveFocus}
        // Heard here and not by each device: there are hundreds on screen.
        onMouseOver={look}
        onFocus={look}
        onClick={(event) => {
          const device = deviceAt(node, event);
          if (device !== undefined) onPick({ node, device });
        }}
        tabIndex={-1}
      >
        {node.devices.map((device, at) => (
          <DeviceCell
            key={device.id}
            device={device}
            at={at}
            index={index}
            marks={marks}
            near={bright.includes(String(at))}
            picked={picked === device.id}
          />
        ))}
      </div>
    </div>
  );
});

function nearOn(node: FleetNode, near: ReadonlySet<string> | null): string {
  if (near === null) return "";
  return node.devices
    .flatMap(({ claims }, at) => (claims.some((claim) => near.has(claim.worker)) ? [at] : []))
    .join(" ");
}

function moveFocus(event: KeyboardEvent<HTMLElement>): void {
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8 }[event.key];
  if (by === undefined) return;
  const cells = [...event.currentTarget.querySelectorAll("button")];
  const next = cells[cells.findIndex((cell) => cell === document.activeElement) + by];
  if (next === undefined) return;
  next.focus();
  event.preventDefault();
}

function deviceAt(node: FleetNode, event: SyntheticEvent): FleetDevice | undefined {
  const cell = (event.target as Element).closest("[data-at]");
  return node.devices[Number(cell?.getAttribute("data-at") ?? -1)];
}

function DeviceCell({
  device,
  at,
  index,
  marks,
  near,
  picked,
}: {
  device: FleetDevice;
  /** Its place in its card. */
  at: number;
  index: Index;
  marks: Marks;
  near: boolean;
  picked: boolean;
}) {
  const starts = marks.starts.get(device.id) ?? [];
  const share = (of: number) => `${Math.min(100, (100 * of) / device.memory_bytes)}%`;
  const trouble = device.quarantine !== "" || device.overuse !== "";
  const { held, coming } = stacked(device, starts);
  const stopping = held.filter(({ claim }) => marks.stops.has(claim.worker));
  const sign = trouble ? "!" : starts.length > 0 ? "+" : stopping.length > 0 ? "−" : "";
  return (
    <button
      type="button"
      className="fleet-device"
      style={{ backgroundImage: filling(device, index) }}
      data-at={at}
      data-near={near || starts.length > 0 || undefined}
      data-trouble={trouble || undefined}
      data-picked={picked || undefined}
      aria-pressed={picked}
      aria-label={inWords(device, index, marks)}
      tabIndex={at === 0 ? 0 : -1}
    >
      {stopping.map(({ claim, from }) => (
        <span
          key={claim.worker}
          className="fleet-claim"
          data-stops
          style={{ bottom: share(from), height: share(claim.memory_bytes) }}
        />
      ))}
      {coming.map(({ start, memoryBytes, from }) => (
        <span
          key={slotOf(start)}
          className="fleet-claim"
          data-starts
          style={{ bottom: share(from), height: share(memoryBytes) }}
        />
      ))}
      {sign !== "" && <span className="fleet-sign">{sign}</span>}
    </button>
  );
}

/** A device for those who do not see it. */
export function inWords(device: FleetDevice, index: Index, marks: Marks = NO_MARKS): string {
  const parts = [
    `${shortId(device)}: ${bytes(claimedBytes(device))} of ${bytes(device.memory_bytes)} claimed`,
    ...device.claims.map((claim) => {
      const worker = index.workers.get(claim.worker);
      const stops = marks.stops.has(claim.worker) ? ", would stop" : "";
      return `${worker === undefined ? claim.worker : slotOf(worker)} ${bytes(claim.memory_bytes)}${stops}`;
    }),
    ...(marks.starts.get(device.id) ?? []).map(
      ({ start, memoryBytes }) => `${slotOf(start)} ${bytes(memoryBytes)} would start`,
    ),
  ];
  if (device.quarantine !== "") parts.push(`in quarantine: ${device.quarantine}`);
  if (device.overuse !== "") parts.push(device.overuse);
  return parts.join("; ");
}
