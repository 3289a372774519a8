import { expect, test } from "vitest";

import { Lines, linesOf } from "./lines";

test("lines are whole, wherever their pieces were cut", () => {
  const text = "one\ntwo\r\n\nthree\n";
  for (let cut = 0; cut <= text.length; cut += 1) {
    // Between \r and \n a line is cut as anywhere else.
    const lines = new Lines();
    const found = [...lines.push(text.slice(0, cut)), ...lines.push(text.slice(cut))];
    expect(found).toEqual(["one", "two", "", "three"]);
  }
});

test("an answer's lines come one by one, and what has no end is none", async () => {
  const found = [];
  for await (const line of linesOf(new Response("a\nb\nc"))) found.push(line);
  expect(found).toEqual(["a", "b"]);
});
