import { expect, test } from "vitest";

import { bodyOf, formOf, limitsText, NO_LIMITS } from "./limits";

const LIMITS = {
  requests_per_minute: 60,
  tokens_per_minute: 0,
  in_flight: 4,
  budget: { amount: 20, period: "day" as const },
};

test("limits go into the form and out of it unchanged", () => {
  expect(bodyOf(formOf(LIMITS))).toEqual({
    requests_per_minute: 60,
    tokens_per_minute: null,
    in_flight: 4,
    budget: { amount: 20, period: "day" },
  });
});

test("an empty form lifts every limit", () => {
  expect(Object.values(bodyOf(NO_LIMITS)).every((value) => value === null)).toBe(true);
});

test("limits are said in words", () => {
  const spent = { amount: 3, period: "day" as const };
  expect(limitsText({ limits: LIMITS, spent })).toBe(
    "60 requests/min, 4 at once, 3 of 20 spent (day)",
  );
  expect(
    limitsText({
      limits: { ...LIMITS, requests_per_minute: 0, in_flight: 0, budget: null },
      spent,
    }),
  ).toBe("none");
});
