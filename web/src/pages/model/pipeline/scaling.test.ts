import { expect, it } from "vitest";

import { roleLabel, wishOf } from "./scaling";

const PAIR = {
  name: "default",
  roles: [
    { role: "prefill" as const, desired: 1, live: 1, ready: 1, asleep: 0, autoscale: null },
    { role: "decode" as const, desired: 2, live: 2, ready: 2, asleep: 0, autoscale: null },
  ],
};

it("asks for what differs, and for nothing where nothing does", () => {
  expect(wishOf(PAIR, { decode: 3, prefill: 1 })).toEqual({ variant: "default", decode: 3 });
  expect(wishOf(PAIR, { decode: 2 })).toBeNull();
  expect(wishOf(PAIR, {})).toBeNull();
});

it("names the workers of an aggregated variant by the API's word", () => {
  const roles = [
    { role: "unified" as const, desired: 1, live: 1, ready: 1, asleep: 0, autoscale: null },
  ];
  expect(wishOf({ name: "whole", roles }, { unified: 2 })).toEqual({
    variant: "whole",
    workers: 2,
  });
});

it("says where the number follows the load", () => {
  const autoscale = { workers_min: 1, workers_max: 4, reason: "" };
  expect(roleLabel({ role: "decode", desired: 2, live: 2, ready: 2, asleep: 0, autoscale })).toBe(
    "decode (1–4 by load)",
  );
});
