import { expect, test } from "vitest";

import { ofPolls } from "./polls";

function query(refetchInterval: number | undefined, fetchFailureCount = 0) {
  const asked = { observers: [{ options: { refetchInterval } }], state: { fetchFailureCount } };
  return asked as unknown as Parameters<typeof ofPolls>[0][number];
}

test("a page that asks again says so, unless nothing answers", () => {
  expect(ofPolls([])).toBe("paused");
  expect(ofPolls([query(undefined)])).toBe("paused");
  expect(ofPolls([query(undefined, 1), query(5000)])).toBe("refreshed");
  expect(ofPolls([query(5000), query(5000, 1)])).toBe("silent");
});
