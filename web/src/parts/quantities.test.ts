import { expect, it } from "vitest";

import { bytes } from "./quantities";

it("sizes have the unit that leaves them short", () => {
  expect([0, 512 * 1024, 4 * 1024 ** 3, 800 * 1024 ** 4, null].map(bytes)).toEqual([
    "0 B",
    "512 KiB",
    "4.0 GiB",
    "800 TiB",
    "–",
  ]);
});
