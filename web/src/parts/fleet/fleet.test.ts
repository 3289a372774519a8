import { describe, expect, it } from "vitest";

import {
  ALL,
  filtered,
  type Fleet,
  type FleetDevice,
  type FleetNode,
  type FleetWorker,
  freeBytes,
  indexed,
  links,
  peers,
} from "./fleet";
import { CARD_WIDTH, CELL, layout, spots } from "./layout";
import { marksOf, type Plan, stacked, type StartMark, touched } from "./marks";

const GIB = 1024 ** 3;

function node(name: string, held: string[][], more: Partial<FleetNode> = {}): FleetNode {
  return {
    name,
    state: "ready",
    device_kind: "cuda",
    labels: {},
    last_seen_at: "2026-01-01T00:00:00Z",
    devices: held.map((workers, index) => ({
      id: `${name}/cuda${index}`,
      index,
      model: "H100",
      memory_bytes: 80 * GIB,
      used_bytes: 0,
      island: "",
      quarantine: "",
      overuse: "",
      claims: workers.map((worker) => ({ worker, memory_bytes: 40 * GIB })),
    })),
    ...more,
  };
}

function worker(id: string, more: Partial<FleetWorker> = {}): FleetWorker {
  const [model = ""] = id.split("-");
  return {
    id,
    model,
    variant: "default",
    role: id.includes("-p") ? "prefill" : id.includes("-d") ? "decode" : "unified",
    ordinal: 0,
    revision: 1,
    phase: "ready",
    departing: false,
    node: "",
    ...more,
  };
}

function first(of: FleetNode): FleetDevice {
  const [device] = of.devices;
  if (device === undefined) throw new Error("it has no device");
  return device;
}

const FLEET: Fleet = {
  version: 1,
  nodes: [
    node("one", [["chat-p0"], ["chat-d0", "other-u0"]], { labels: { zone: "a" } }),
    node("two", [["chat-d1"], ["chat-d1"], []], { state: "cordoned" }),
    node("three", [[]]),
  ],
  workers: [
    worker("chat-p0"),
    worker("chat-d0"),
    worker("chat-d1"),
    worker("chat-d9", { revision: 2 }),
    worker("other-u0"),
  ],
};
const INDEX = indexed(FLEET);

function named(filter: Partial<typeof ALL>) {
  return filtered(FLEET, INDEX, { ...ALL, ...filter }).map((found) => found.name);
}

describe("pairs", () => {
  it("are of one variant and revision", () => {
    expect(peers(INDEX, worker("chat-p0")).map((peer) => peer.id)).toEqual(["chat-d0", "chat-d1"]);
    expect(peers(INDEX, worker("chat-d1")).map((peer) => peer.id)).toEqual(["chat-p0"]);
    expect(peers(INDEX, worker("other-u0"))).toEqual([]);
  });

  it("are drawn for a model or a worker, and no more than can be seen apart", () => {
    const ends = (found: ReturnType<typeof links>) =>
      found.links.map(({ from, to }) => [from.id, to.id]);
    expect(ends(links(INDEX, (one) => one.id === "chat-d1", 9))).toEqual([
      ["one/cuda0", "two/cuda0"],
    ]);
    const few = links(INDEX, (one) => one.model === "chat", 1);
    expect([few.links.length, few.total]).toEqual([1, 2]);
    expect(links(INDEX, () => false, 9).total).toBe(0);
  });
});

describe("nodes", () => {
  it("are found by state, model, label, room and name", () => {
    expect(named({})).toEqual(["one", "two", "three"]);
    expect(named({ state: "cordoned" })).toEqual(["two"]);
    expect(named({ model: "other" })).toEqual(["one"]);
    expect(named({ label: "zone=a" })).toEqual(["one"]);
    expect(named({ freeBytes: 41 * GIB })).toEqual(["two", "three"]);
    expect(named({ text: "CHAT-D1" })).toEqual(["two"]);
    expect(named({ text: "two/cuda2" })).toEqual(["two"]);
  });

  it("are found by what is wrong with their devices", () => {
    const sick = node("sick", [[]]);
    const device = { ...first(sick), quarantine: "another program computes there" };
    const fleet = { ...FLEET, nodes: [{ ...sick, devices: [device] }, node("well", [[]])] };
    const found = filtered(fleet, indexed(fleet), { ...ALL, state: "quarantine" });
    expect(found.map((one) => one.name)).toEqual(["sick"]);
    expect(freeBytes(device)).toBe(0);
  });
});

describe("the layout", () => {
  const nodes = Array.from({ length: 120 }, (_, index) =>
    node(
      `n${index}`,
      Array.from({ length: index % 17 }, () => []),
    ),
  );

  it("has as many cards in a row as there is room for", () => {
    expect(layout(nodes, 10).columns).toBe(1);
    expect(layout(nodes, 3 * CARD_WIDTH + 16).columns).toBe(3);
    expect(layout(nodes, 3 * CARD_WIDTH + 15).columns).toBe(2);
  });

  it("gives each device a place of its own, within its row", () => {
    const drawn = layout(nodes, 900);
    const places = spots(drawn);
    expect(places.size).toBe(nodes.reduce((sum, each) => sum + each.devices.length, 0));
    expect(new Set([...places.values()].map(({ x, y }) => `${x},${y}`)).size).toBe(places.size);
    for (const row of drawn.rows) {
      for (const { id } of row.nodes.flatMap((each) => each.devices)) {
        const y = places.get(id)?.y ?? NaN;
        expect(y - CELL.height / 2).toBeGreaterThan(row.top);
        expect(y + CELL.height / 2).toBeLessThan(row.top + row.height);
      }
    }
  });

  it("is empty where there are no nodes", () => {
    expect(layout([], 900)).toMatchObject({ rows: [], height: 0 });
  });
});

it("a plan marks the devices that would be claimed and the workers that would stop", () => {
  const slot = { model: "chat", variant: "default", role: "decode", ordinal: 1 } as const;
  const share = (device: string) => ({ device, memory_bytes: GIB, share: 0.1 });
  const plan = {
    starts: [{ ...slot, node: "three", devices: [share("three/cuda0")] }],
    stops: [{ ...slot, worker: "chat-d1", node: "two" }],
  } as unknown as Plan;
  const marks = marksOf(plan);
  expect(marks.starts.get("three/cuda0")?.map((mark) => mark.memoryBytes)).toEqual([GIB]);
  expect([...marks.stops.keys()]).toEqual(["chat-d1"]);
  expect(touched(FLEET, plan).map((each) => each.name)).toEqual(["two", "three"]);
});

it("what starts is drawn above what is there, or over it where that gives way", () => {
  const device = first(node("n", [["a-u0"]]));
  const start = (gib: number) => ({ start: {}, memoryBytes: gib * GIB }) as unknown as StartMark;
  const from = (gibs: number[]) =>
    stacked(device, gibs.map(start)).coming.map((mark) => mark.from / GIB);
  expect(from([20, 10])).toEqual([40, 60]);
  expect(from([60])).toEqual([20]);
  expect(from([80])).toEqual([0]);
});
