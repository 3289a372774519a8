import { expect, it } from "vitest";

import type { Plan } from "../../parts/fleet/marks";
import { headline, isTold, startsWhen } from "./plan";

function plan(more: object): Plan {
  const none = {
    version: 1,
    complete: true,
    changes: [],
    starts: [],
    stops: [],
    waits: [],
    staying: [],
    no_place: [],
    external: [],
    kept: [{}, {}],
    quotas: [],
  };
  return { ...none, ...more } as unknown as Plan;
}

it("what has no place is said before evictions, and these before waits", () => {
  const evicted = { stops: [{ cause: "evicted", model: "tail" }] };
  const lacking = { complete: false, no_place: [{ model: "big" }] };
  const waits = { waits: [{ model: "tail" }] };
  const titles = [{ ...evicted, ...lacking }, { ...evicted, ...waits }, waits, {}].map(
    (more) => headline(plan(more), "big").title,
  );
  expect(titles).toEqual([
    "No place for all of big",
    "It fits, at the cost of tail",
    "It fits, after a wait",
    "Everything finds a place",
  ]);
  expect(headline(plan(lacking), "other").title).toBe("It fits; no place for big");
});

it("the sentence counts what happens to workers", () => {
  const some = plan({ starts: [{}], stops: [{ cause: "outdated" }] });
  expect(headline(some, "m").sentence).toBe("Of all workers 1 would start, 1 would stop, 2 go on.");
});

it("a start says what it waits for", () => {
  const start = { asleep: false, after: [], at_once: true, replaces: "" };
  const when = (more: object) => startsWhen({ ...start, ...more } as never);
  expect([
    when({}),
    when({ replaces: "a" }),
    when({ after: ["a", "b"] }),
    when({ at_once: false }),
    when({ asleep: true }),
  ]).toEqual([
    "now",
    "now, instead of a",
    "when a, b have ended",
    "later",
    "asleep, starts when it is asked for",
  ]);
});

it("owners are told of where they have a quota or hold another number", () => {
  const owner = { devices_quota: null, memory_bytes_quota: null, devices_now: 1, devices_then: 1 };
  expect([
    isTold(owner as never),
    isTold({ ...owner, devices_then: 2 } as never),
    isTold({ ...owner, devices_quota: 4 } as never),
  ]).toEqual([false, true, true]);
});
