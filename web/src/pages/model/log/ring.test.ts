import { describe, expect, it } from "vitest";

import { LINE_CHARS_MAX, Lines, Ring } from "./ring";

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

describe("a ring", () => {
  it("keeps the newest lines in their order, and knows their numbers", () => {
    const ring = new Ring(3);
    ring.push(["a", "b"]);
    ring.push(["c", "d", "e"]);
    expect(ring.all()).toEqual(["c", "d", "e"]);
    expect([ring.at(0), ring.at(2)]).toEqual(["c", "e"]);
    expect([ring.length, ring.total, ring.first]).toEqual([3, 5, 3]);
  });

  it("finds lines whatever their case", () => {
    const ring = new Ring(3);
    ring.push(["gone", "An ERROR", "fine", "error again"]);
    expect(ring.search("Error")).toEqual([0, 2]);
    expect(ring.search("gone")).toEqual([]);
  });

  it("takes a burst of 100,000 lines at once", () => {
    const ring = new Ring(10_000);
    ring.push(Array.from({ length: 100_000 }, (_, index) => `line ${index}`));
    expect(ring.length).toBe(10_000);
    expect(ring.at(0)).toBe("line 90000");
    expect(ring.at(9999)).toBe("line 99999");
  });
});

describe("lines", () => {
  it("join over chunks, within a character too", () => {
    const lines = new Lines();
    const whole = bytes("first\nübung\nrest");
    const cut = 7; // within ü
    expect(lines.take(whole.slice(0, cut))).toEqual(["first"]);
    expect(lines.take(whole.slice(cut))).toEqual(["übung"]);
    expect(lines.end()).toEqual(["rest"]);
    expect(lines.end()).toEqual([]);
  });

  it("lose colours and what a progress bar drew over", () => {
    const lines = new Lines();
    expect(lines.take(bytes("\u001b[31mred\u001b[0m\r\n10 %\r20 %\rdone\n"))).toEqual([
      "red",
      "done",
    ]);
  });

  it("are cut where they never end", () => {
    const lines = new Lines();
    const [long] = lines.take(bytes("x".repeat(LINE_CHARS_MAX + 10)));
    expect(long).toHaveLength(LINE_CHARS_MAX + 1);
    expect(lines.take(bytes("next\n"))).toEqual(["next"]);
  });
});
