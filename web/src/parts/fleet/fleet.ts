import type { Schemas } from "../../api/client";

// The fleet as values: who is where, who belongs together, which nodes are asked for. Pure.

export type Fleet = Schemas["FleetView"];
export type FleetNode = Schemas["FleetNodeView"];
export type FleetDevice = Schemas["FleetDeviceView"];
export type FleetWorker = Schemas["FleetWorkerView"];

/** What is looked up of a fleet again and again. */
export type Index = {
  workers: ReadonlyMap<string, FleetWorker>;
  /** Where a worker is: the devices it claims, in the order of the fleet. */
  places: ReadonlyMap<string, readonly FleetDevice[]>;
  /** Of pairs, by model, variant and revision. */
  halves: ReadonlyMap<string, { prefill: readonly FleetWorker[]; decode: readonly FleetWorker[] }>;
  models: readonly string[];
  labels: readonly string[];
  /** What a node is found by: its name, its devices, their workers. */
  texts: ReadonlyMap<string, string>;
};

export function indexed(fleet: Fleet): Index {
  const places = new Map<string, FleetDevice[]>();
  const labels = new Set<string>();
  for (const node of fleet.nodes) {
    for (const [key, value] of Object.entries(node.labels)) labels.add(`${key}=${value}`);
    for (const device of node.devices) {
      for (const claim of device.claims) {
        const held = places.get(claim.worker);
        if (held === undefined) places.set(claim.worker, [device]);
        else held.push(device);
      }
    }
  }
  const halves = new Map<string, { prefill: FleetWorker[]; decode: FleetWorker[] }>();
  for (const worker of fleet.workers) {
    if (worker.role === "unified") continue;
    const key = pairKey(worker);
    const both = halves.get(key) ?? { prefill: [], decode: [] };
    both[worker.role].push(worker);
    halves.set(key, both);
  }
  return {
    workers: new Map(fleet.workers.map((worker) => [worker.id, worker])),
    places,
    halves,
    models: [...new Set(fleet.workers.map((worker) => worker.model))].sort(),
    labels: [...labels].sort(),
    texts: new Map(fleet.nodes.map((node) => [node.name, textOf(node)])),
  };
}

function textOf({ name, devices }: FleetNode): string {
  const parts = [name];
  for (const { id, model, claims } of devices) {
    parts.push(id, model);
    for (const { worker } of claims) parts.push(worker);
  }
  return parts.join("\n").toLowerCase();
}

function pairKey(worker: FleetWorker): string {
  return JSON.stringify([worker.model, worker.variant, worker.revision]);
}

/** The workers that *worker* hands KV to, or gets it from. */
export function peers(index: Index, worker: FleetWorker): readonly FleetWorker[] {
  if (worker.role === "unified") return [];
  const both = index.halves.get(pairKey(worker));
  return (worker.role === "prefill" ? both?.decode : both?.prefill) ?? [];
}

export type Link = { from: FleetDevice; to: FleetDevice };

/** From prefill to decode, of the workers that are *wanted*, at most *most*; *total* is how many. */
export function links(
  index: Index,
  wanted: (worker: FleetWorker) => boolean,
  most: number,
): { links: Link[]; total: number } {
  const found: Link[] = [];
  let total = 0;
  for (const { prefill, decode } of index.halves.values()) {
    for (const from of prefill) {
      for (const to of decode) {
        if (!wanted(from) && !wanted(to)) continue;
        const start = index.places.get(from.id)?.[0];
        const end = index.places.get(to.id)?.[0];
        if (start === undefined || end === undefined) continue;
        total += 1;
        if (found.length < most) found.push({ from: start, to: end });
      }
    }
  }
  return { links: found, total };
}

export type Filter = {
  state: string;
  model: string;
  label: string;
  /** A device has at least so much that nobody claims. */
  freeBytes: number;
  text: string;
};

export const ALL: Filter = { state: "", model: "", label: "", freeBytes: 0, text: "" };

/** What a node is called where it is filtered: its state, or that something is wrong with it. */
export function troubles(node: FleetNode): string[] {
  const found: string[] = [];
  if (node.devices.some((device) => device.quarantine !== "")) found.push("quarantine");
  if (node.devices.some((device) => device.overuse !== "")) found.push("overuse");
  return found;
}

export function filtered(fleet: Fleet, index: Index, filter: Filter): readonly FleetNode[] {
  const text = filter.text.trim().toLowerCase();
  return fleet.nodes.filter(
    (node) =>
      (filter.state === "" ||
        node.state === filter.state ||
        troubles(node).includes(filter.state)) &&
      (filter.label === "" || hasLabel(node, filter.label)) &&
      (filter.freeBytes === 0 ||
        node.devices.some((device) => freeBytes(device) >= filter.freeBytes)) &&
      (filter.model === "" ||
        node.devices.some((device) =>
          device.claims.some((claim) => index.workers.get(claim.worker)?.model === filter.model),
        )) &&
      (text === "" || (index.texts.get(node.name)?.includes(text) ?? false)),
  );
}

function hasLabel(node: FleetNode, label: string): boolean {
  return Object.entries(node.labels).some(([key, value]) => `${key}=${value}` === label);
}

export function claimedBytes(device: FleetDevice): number {
  return device.claims.reduce((sum, claim) => sum + claim.memory_bytes, 0);
}

/** What a new worker could have of it. */
export function freeBytes(device: FleetDevice): number {
  return device.quarantine === "" ? Math.max(0, device.memory_bytes - claimedBytes(device)) : 0;
}

/** The part of a device's id that its node does not say already: `cuda3`. */
export function shortId(device: FleetDevice): string {
  return device.id.slice(device.id.lastIndexOf("/") + 1);
}

/** A worker by its place in its model, in words: "chat/b prefill 0". */
export function slotOf(worker: {
  model: string;
  variant: string;
  role: string;
  ordinal: number;
}): string {
  const variant = worker.variant === "default" ? "" : `/${worker.variant}`;
  return `${worker.model}${variant} ${worker.role} ${worker.ordinal}`;
}

const GOLDEN_ANGLE = 137.508;

/** A model's colour, the same on every page and for everybody. */
export function colourOf(model: string): string {
  let hash = 0;
  for (const letter of model) hash = (hash * 31 + letter.charCodeAt(0)) % 65_521;
  return `hsl(${Math.round((hash * GOLDEN_ANGLE) % 360)} 55% 52%)`;
}
