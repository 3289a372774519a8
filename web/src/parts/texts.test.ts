import { expect, it } from "vitest";

import { between } from "./texts";

function applied(before: string, after: string): string {
  const change = between(before, after);
  if (change === null) return before;
  return before.slice(0, change.from) + change.insert + before.slice(change.to);
}

it("leads from any text to any other, and touches only what differs", () => {
  const texts = ["", "a", "aa", "aaa", "workers: 2\n", "workers: 3\n", "x\nworkers: 22\n"];
  for (const before of texts) {
    for (const after of texts) expect(applied(before, after)).toBe(after);
  }
  expect(between("workers: 2\n", "workers: 3\n")).toEqual({ from: 9, to: 10, insert: "3" });
  expect(between("same", "same")).toBeNull();
});
