import { expect, it } from "vitest";

import { type Family, type FrontierPoint, lineOf, type Plan } from "./plan";
import { curves, devicesWords, frontierWords, goodputWords, shapeWords } from "./words";

function point(family: Family, tpot_s: number, tokens_per_device: number): FrontierPoint {
  const shape = family === "aggregated" ? "4x TP2" : "2P:1D TP2/TP4";
  return { family, tpot_s, tokens_per_device, shape };
}

const POINTS = [
  point("aggregated", 0.01, 0),
  point("aggregated", 0.02, 500),
  point("aggregated", 0.04, 1500),
  point("disaggregated", 0.01, 0),
  point("disaggregated", 0.02, 800),
  point("disaggregated", 0.04, 1200),
];

const PLAN: Plan = {
  models: [],
  goodput: 4,
  objective: "goodput",
  devices: 3,
  cost: 3,
  devices_of_fleet: 12,
  devices_by_model: { H100: 3, L40S: 0 },
  gap: 0,
  rounds: 2,
  notes: [],
};

it("shapes are told in words", () => {
  expect(shapeWords("4x TP2")).toBe("4 workers of 2 devices");
  expect(shapeWords("1x TP1")).toBe("1 worker of 1 device");
  expect(shapeWords("2P:1D TP2/TP4")).toBe("2 prefill workers of 2 devices, 1 decode worker of 4");
  expect(shapeWords("another")).toBe("another");
});

it("a time that no shape keeps is a gap, not a zero", () => {
  expect(curves(POINTS)).toEqual({
    times: [0.01, 0.02, 0.04],
    values: { aggregated: [null, 500, 1500], disaggregated: [null, 800, 1200] },
  });
});

it("the frontier is told in words: at what is promised, and who is ahead where", () => {
  expect(frontierWords(POINTS, 0.04)).toBe(
    "Within 40 ms a token: aggregated 1,500 tokens/s per device (4x TP2), disaggregated 1,200 " +
      "tokens/s per device (2P:1D TP2/TP4). At 10 ms neither is that fast, at 20 ms disaggregated " +
      "is ahead, at 40 ms aggregated is ahead.",
  );
  expect(frontierWords(POINTS.slice(0, 3), 0.02)).toContain("disaggregated nothing. At 10 ms");
  expect(frontierWords(POINTS.slice(0, 1), 0.02)).toBe(
    "No shape answers within any of these times.",
  );
});

it("totals are by kind of device, and say how far from the best they may be", () => {
  const nodes = [
    { device_model: "H100", count: 1, devices: 8 },
    { device_model: "L40S", count: 2, devices: 2 },
  ];
  const asked = { traffic: { models: [] }, fleet: { nodes }, objective: "goodput" as const };
  expect(devicesWords(PLAN, asked)).toBe("3 of 8 H100, 0 of 4 L40S");
  expect(devicesWords({ ...PLAN, cost: 7.5 }, asked)).toMatch(/0 of 4 L40S, at 7.5 an hour$/);
  expect(goodputWords(PLAN)).toBe("4.0 of 0 requests/s within their SLO.");
  expect(goodputWords({ ...PLAN, gap: 0.05 })).toContain("at most 5.0 % more");
});

it("a line of the stream is read, an empty one says nothing", () => {
  expect(lineOf('{"kind":"noted","message":"a"}')).toEqual({ kind: "noted", message: "a" });
  expect(lineOf(" ")).toBeNull();
});
