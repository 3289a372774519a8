import { expect, test } from "vitest";

import type { Schemas } from "../../api/client";
import { byKeyAndModel, daysOf, overDays } from "./sums";

function used(day: string, key_id: string, model: string, completion_tokens: number) {
  return {
    day,
    key_id,
    key_name: key_id,
    model,
    completion_tokens,
    prompt_tokens: 1,
    requests: 1,
    errors: 0,
    cost: 0.5,
  } satisfies Schemas["UsageView"];
}

const ITEMS = [
  used("2026-11-01", "a", "small", 10),
  used("2026-11-03", "a", "small", 5),
  used("2026-11-03", "b", "large", 100),
];

test("days are whole and in order, over the end of a month", () => {
  expect(daysOf("2026-10-30", "2026-11-02")).toEqual([
    "2026-10-30",
    "2026-10-31",
    "2026-11-01",
    "2026-11-02",
  ]);
});

test("a day without usage is nothing, not left out", () => {
  const days = daysOf("2026-11-01", "2026-11-03");
  expect(overDays(ITEMS, days, (item) => item.completion_tokens)).toEqual([10, 0, 105]);
});

test("keys and models are summed over days, the largest first", () => {
  expect(byKeyAndModel(ITEMS).map((sum) => [sum.model, sum.completion_tokens, sum.cost])).toEqual([
    ["large", 100, 0.5],
    ["small", 15, 1],
  ]);
});
