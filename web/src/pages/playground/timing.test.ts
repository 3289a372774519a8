import { expect, test } from "vitest";

import { NOT_YET, tick, tpotS, ttftS } from "./timing";

test("TTFT is the first piece, TPOT the mean of what follows", () => {
  const timing = [200, 250, 300].reduce(tick, NOT_YET);
  expect(ttftS(timing)).toBeCloseTo(0.2);
  expect(tpotS(timing)).toBeCloseTo(0.05);
});

test("before there is anything to measure there is no number", () => {
  expect(ttftS(NOT_YET)).toBeNull();
  expect(tpotS(tick(NOT_YET, 100))).toBeNull();
});
