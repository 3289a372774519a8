import { describe, expect, it } from "vitest";

import type { Schemas } from "../../../api/client";
import {
  type Beside,
  chosen,
  clip,
  DRAWN_MAX,
  layout,
  type Rect,
  sentences,
  slotKey,
} from "./layout";

type Flow = Schemas["FlowView"];
type Worker = Schemas["FlowWorkerView"];
type Variant = Schemas["FlowVariantView"];

const RATES: Schemas["RatesView"] = {
  requests_per_s: 4,
  error_rate: null,
  prompt_tokens_per_s: 1200,
  completion_tokens_per_s: 300,
  ttft_p50_s: 0.1,
  ttft_p95_s: 0.2,
  tpot_p50_s: 0.01,
  tpot_p95_s: 0.02,
  queued: 0,
  in_flight: 3,
};

function worker(role: Schemas["Role"], ordinal: number, more: Partial<Worker> = {}): Worker {
  return {
    id: `${role}-${ordinal}-${more.revision ?? 1}`,
    role,
    ordinal,
    revision: 1,
    phase: "ready",
    departing: false,
    node: "node-a",
    devices: [],
    reason: "",
    running: 1,
    waiting: 0,
    kv_usage: 0.4,
    prompt_tokens_per_s: 10,
    generation_tokens_per_s: 20,
    requests_per_s: 1,
    ...more,
  };
}

function many(role: Schemas["Role"], count: number, more: Partial<Worker> = {}): Worker[] {
  return Array.from({ length: count }, (_, ordinal) => worker(role, ordinal, more));
}

function variant(workers: Worker[], more: Partial<Variant> = {}): Variant {
  const roles = [...new Set(workers.map((one) => one.role))];
  return {
    name: "default",
    state: "ready",
    weight: 100,
    percent: 100,
    topology: roles.includes("prefill") ? "disaggregated" : "aggregated",
    engine: "vllm",
    transfer: roles.includes("prefill") ? "nixl" : "",
    rates: RATES,
    paired_per_s: 4,
    kv_transfers_per_s: 4,
    kv_failures_per_s: 0,
    roles: roles.map((role) => {
      const of = workers.filter((one) => one.role === role).length;
      return { role, desired: of, live: of, ready: of, asleep: 0, autoscale: null };
    }),
    workers,
    ...more,
  };
}

function flow(...variants: Variant[]): Flow {
  return { name: "m", at: "2026-01-01T00:00:00.000Z", state: "ready", rates: RATES, variants };
}

const BESIDE: Beside = { width: 1058, rollout: null, shadows: new Map(), noPlace: new Map() };
const PAIR = variant([...many("prefill", 2), ...many("decode", 3)]);

function tiles(picture: ReturnType<typeof layout>) {
  return picture.frames.flatMap((frame) =>
    frame.lanes.flatMap((lane) => lane.groups.flatMap((group) => group.tiles)),
  );
}

function within(inner: Rect, outer: Rect): boolean {
  return (
    inner.x >= outer.x &&
    inner.y >= outer.y &&
    inner.x + inner.w <= outer.x + outer.w + 0.01 &&
    inner.y + inner.h <= outer.y + outer.h + 0.01
  );
}

function apart(a: Rect, b: Rect): boolean {
  return a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
}

describe.each([560, 820, 1058, 1700])("at a width of %i", (width) => {
  const rolling = variant([...many("unified", 3), ...many("prefill", 2, { revision: 2 })]);
  it.each([
    ["a pair", flow(PAIR), null],
    ["40 workers", flow(variant(many("unified", 40))), null],
    ["several variants", flow(PAIR, variant(many("unified", 5), { name: "whole" })), null],
    ["two revisions", flow(rolling), { from: 1, to: 2, percent: 25 }],
    ["nothing", flow(variant([])), null],
  ])("everything of %s lies in its frame and apart from what is beside it", (_, of, rollout) => {
    const picture = layout(of, { ...BESIDE, width, rollout });
    const all = { x: 0, y: 0, w: picture.width, h: picture.height };
    expect(picture.width).toBeLessThanOrEqual(width);
    for (const frame of picture.frames) {
      expect(within(frame, all)).toBe(true);
      expect(apart(frame, picture.gateway)).toBe(true);
      for (const lane of frame.lanes) {
        expect(within(lane, frame)).toBe(true);
        for (const group of lane.groups) {
          expect(within(group, lane)).toBe(true);
          group.tiles.forEach((tile) => {
            expect(within(tile, group)).toBe(true);
          });
        }
      }
    }
    const drawn = tiles(picture);
    drawn.forEach((one, index) => {
      drawn.slice(index + 1).forEach((other) => {
        expect(apart(one, other)).toBe(true);
      });
    });
  });
});

describe("a pair", () => {
  it("is gateway, prefill, decode from left to right, with what flows on the edges", () => {
    const picture = layout(flow(PAIR), BESIDE);
    const [prefill, decode] = picture.frames[0]?.lanes[0]?.groups ?? [];
    expect([prefill?.role, decode?.role]).toEqual(["prefill", "decode"]);
    expect(prefill && decode && prefill.x + prefill.w < decode.x).toBe(true);
    const said = picture.edges.flatMap((edge) => edge.labels.map((label) => label.text));
    expect(said).toEqual(
      expect.arrayContaining(["4.0 req/s", "100 %", "1,200 tok/s in", "KV 4.0/s", "nixl"]),
    );
  });

  it("has an edge past prefill as soon as requests take it", () => {
    const direct = (paired: number) =>
      layout(flow(variant(PAIR.workers, { paired_per_s: paired })), BESIDE).edges.find((edge) =>
        edge.key.endsWith("/direct"),
      );
    expect(direct(4)).toBeUndefined();
    expect(direct(1)?.labels[0]?.text).toBe("3.0 req/s without prefill");
  });

  it("says that transfers fail, where the edge is", () => {
    const picture = layout(flow(variant(PAIR.workers, { kv_failures_per_s: 0.5 })), BESIDE);
    const edge = picture.edges.find((one) => one.key.endsWith("/kv"));
    expect(edge?.failing).toBe(true);
    expect(edge?.labels.find((label) => label.tone === "bad")?.text).toBe("0.50/s failing");
  });

  it("tells dashes where nothing was counted, not zeros", () => {
    const picture = layout(flow(variant(PAIR.workers, { kv_transfers_per_s: null })), BESIDE);
    const edge = picture.edges.find((one) => one.key.endsWith("/kv"));
    expect(edge?.labels[0]?.text).toBe("KV –/s");
    expect(edge?.load).toBeNull();
  });
});

describe("many workers", () => {
  it("are a tile for the rest, with all that fail drawn", () => {
    const workers = many("unified", 40).map((one) =>
      one.ordinal >= 35 ? { ...one, phase: "failed" as const, reason: "out of memory" } : one,
    );
    const { drawn, rest } = chosen(workers);
    expect(drawn.filter((one) => one.phase === "failed")).toHaveLength(5);
    expect(drawn.length).toBe(DRAWN_MAX - 1);
    expect(drawn.length + rest.length).toBe(40);
    const last = tiles(layout(flow(variant(workers)), BESIDE)).at(-1);
    expect(last?.title).toBe("+ 29 more");
    expect(last?.lines[0]).toBe("all ready");
  });

  it("that all fail are drawn up to a bound", () => {
    const { drawn, rest } = chosen(many("unified", 500, { phase: "failed" }));
    expect(drawn).toHaveLength(24);
    expect(rest).toHaveLength(476);
  });

  it("keep their places when one of them begins to fail", () => {
    const healthy = many("unified", DRAWN_MAX);
    const failing = healthy.map((one, index) => (index === 3 ? { ...one, reason: "slow" } : one));
    expect(chosen(failing).drawn.map((one) => one.id)).toEqual(
      chosen(healthy).drawn.map((one) => one.id),
    );
  });
});

describe("what is not as wished", () => {
  it("is a missing worker with why it has no place", () => {
    const lacking = variant(many("prefill", 1), {
      roles: [
        { role: "prefill", desired: 1, live: 1, ready: 1, asleep: 0, autoscale: null },
        { role: "decode", desired: 2, live: 0, ready: 0, asleep: 0, autoscale: null },
      ],
    });
    const noPlace = new Map([[slotKey("default", "decode"), "no device is free"]]);
    const picture = layout(flow(lacking), { ...BESIDE, noPlace });
    const tile = tiles(picture).find((one) => one.title === "2 missing");
    expect(tile?.lines[0]).toBe("no device is free");
    expect(tile?.tone).toBe("bad");
    expect(picture.frames[0]?.lanes[0]?.groups[1]?.tone).toBe("bad");
  });

  it("is told by word and tone, and what leaves or sleeps is dim", () => {
    const workers = [
      worker("unified", 0, { phase: "lost", reason: "its node is gone" }),
      worker("unified", 1, { departing: true }),
      worker("unified", 2, { phase: "asleep" }),
      worker("unified", 3, { phase: "starting" }),
    ];
    const drawn = tiles(layout(flow(variant(workers)), BESIDE));
    expect(drawn.map((tile) => [tile.word, tile.tone, tile.dim])).toEqual([
      ["lost", "bad", false],
      ["leaving", "quiet", true],
      ["asleep", "rest", true],
      ["starting", "busy", false],
    ]);
    expect(drawn[0]?.lines[0]).toBe("its node is gone");
  });
});

describe("a rollout", () => {
  const rollout = { from: 1, to: 2, percent: 25 };
  const workers = [
    ...many("unified", 2),
    ...many("prefill", 1, { revision: 2 }),
    ...many("decode", 1, { revision: 2 }),
  ];
  const changing = variant(workers, {
    roles: [
      { role: "prefill", desired: 1, live: 1, ready: 1, asleep: 0, autoscale: null },
      { role: "decode", desired: 2, live: 1, ready: 1, asleep: 0, autoscale: null },
    ],
  });

  it("has a lane for each revision with its share, in its own topology", () => {
    const [old, fresh] = layout(flow(changing), { ...BESIDE, rollout }).frames[0]?.lanes ?? [];
    expect(old?.title).toBe("Revision 1: 75 % of the traffic");
    expect(old?.groups.map((group) => group.role)).toEqual(["unified"]);
    expect(fresh?.title).toBe("Revision 2: 25 % of the traffic");
    expect(fresh?.groups.map((group) => group.role)).toEqual(["prefill", "decode"]);
  });

  it("lacks workers of the new revision only, which are no trouble unless they have no place", () => {
    const lacking = (noPlace: Beside["noPlace"]) =>
      tiles(layout(flow(changing), { ...BESIDE, rollout, noPlace }))
        .filter((tile) => tile.worker === null)
        .map((tile) => [tile.title, tile.tone]);
    expect(lacking(new Map())).toEqual([["1 more", "quiet"]]);
    expect(lacking(new Map([[slotKey("default", "decode"), "full"]]))).toEqual([
      ["1 missing", "bad"],
    ]);
  });

  it("leaves a variant whole that it does not change", () => {
    const [frame] = layout(flow(PAIR), { ...BESIDE, rollout }).frames;
    expect(frame?.lanes).toHaveLength(1);
    expect(frame?.lanes[0]?.title).toBeNull();
  });

  it("tells what both revisions share", () => {
    const kept = variant(
      [...many("prefill", 1), ...many("decode", 2), ...many("prefill", 1, { revision: 2 })],
      {
        roles: [
          { role: "prefill", desired: 1, live: 1, ready: 1, asleep: 0, autoscale: null },
          { role: "decode", desired: 2, live: 2, ready: 2, asleep: 0, autoscale: null },
        ],
      },
    );
    const lines = tiles(layout(flow(kept), { ...BESIDE, rollout })).map((tile) => tile.lines[0]);
    expect(lines).toContain("shares 2 with revision 1");
  });
});

it("says in sentences who feeds whom", () => {
  expect(sentences(flow(PAIR), BESIDE)).toEqual([
    "The gateway gives default (ready) 100 % of the requests: 4.0 a second in all.",
    "2 prefill workers (2 ready) hand KV caches to 3 decode workers (3 ready): 4.0 a second, 0 of them failing.",
  ]);
});

it("clips to what fits", () => {
  expect(clip("a long sentence", 7)).toBe("a long…");
  expect(clip("short", 7)).toBe("short");
});
