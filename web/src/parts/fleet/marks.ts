import type { Schemas } from "../../api/client";
import { claimedBytes, type Fleet, type FleetDevice, type FleetNode } from "./fleet";

// What a plan would do, by where it would do it. Pure.

export type Plan = Schemas["PlanView"];

export type StartMark = { start: Schemas["StartView"]; memoryBytes: number };

export type Marks = {
  /** By device: what would be claimed of it. */
  starts: ReadonlyMap<string, readonly StartMark[]>;
  /** By worker: who would stop. */
  stops: ReadonlyMap<string, Schemas["StopView"]>;
};

export const NO_MARKS: Marks = { starts: new Map(), stops: new Map() };

export function marksOf(plan: Plan): Marks {
  const starts = new Map<string, StartMark[]>();
  for (const start of plan.starts) {
    for (const share of start.devices) {
      const there = starts.get(share.device) ?? [];
      there.push({ start, memoryBytes: share.memory_bytes });
      starts.set(share.device, there);
    }
  }
  return { starts, stops: new Map(plan.stops.map((stop) => [stop.worker, stop])) };
}

/** The nodes on which something would start or stop, in the fleet's order. */
export function touched(fleet: Fleet, plan: Plan): readonly FleetNode[] {
  const names = new Set([...plan.starts, ...plan.stops].map((item) => item.node));
  return fleet.nodes.filter((node) => names.has(node.name));
}

/**
 * Who is drawn from which byte of a device on: claims from the bottom; what starts above them, or
 * over them where it takes the room of what stops.
 */
export function stacked(device: FleetDevice, starts: readonly StartMark[]) {
  const claimed = claimedBytes(device);
  const wanted = starts.reduce((sum, mark) => sum + mark.memoryBytes, 0);
  const base = Math.max(0, Math.min(claimed, device.memory_bytes - wanted));
  return {
    held: device.claims.map((claim, at) => ({
      claim,
      from: claimedBytes({ ...device, claims: device.claims.slice(0, at) }),
    })),
    coming: starts.map((mark, at) => ({
      ...mark,
      from: base + starts.slice(0, at).reduce((sum, { memoryBytes }) => sum + memoryBytes, 0),
    })),
  };
}
