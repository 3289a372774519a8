import { expect, it } from "vitest";

import { rolloutWords, shown, turnoverWords } from "./changes";

it("values are on one line, and what would be invisible is quoted", () => {
  expect([shown("a b"), shown(""), shown(" a"), shown([1, "x"]), shown(null)]).toEqual([
    "a b",
    '""',
    '" a"',
    '[1,"x"]',
    "null",
  ]);
  expect(shown("x".repeat(500))).toHaveLength(200);
});

it("workers that go on are worth no line of their own", () => {
  const none = { variant: "default", role: "decode", replaced: 0, started: 0, stopped: 0, kept: 3 };
  expect(turnoverWords(none as never)).toBe("");
  expect(turnoverWords({ ...none, replaced: 2, started: 1 } as never)).toBe(
    "default decode: 2 replaced, 1 started (3 go on)",
  );
});

it("a rollout is said by its steps, unless it is to be one", () => {
  const coming = {
    from_revision: 3,
    to_revision: 4,
    canary: [5, 100],
    pause_s: 60,
    promote: "auto",
    gate: true,
    supersedes: 0,
    changes_workers: true,
  } as const;
  expect(rolloutWords(coming as never, false)).toBe(
    "The traffic moves from revision 3 in steps of 5 % → 100 %, each for 60 s at least, if the gate holds.",
  );
  expect(rolloutWords({ ...coming, supersedes: 2 } as never, true)).toBe(
    "All of the traffic moves from revision 3 in one step. The rollout under way to revision 2 ends.",
  );
  expect(rolloutWords({ ...coming, changes_workers: false } as never, false)).toContain("at once");
});
