import { expect, test } from "vitest";

import { pieces } from "./commands";

function links(advice: string) {
  return pieces(advice, "m").flatMap(({ link }) => (link === undefined ? [] : [link]));
}

test("a command leads to the page or the button that does the same", () => {
  expect(pieces("its last worker failed (a: b): modelyard logs m-unified-0-ab12", "m")).toEqual([
    { text: "its last worker failed (a: b): " },
    {
      text: "modelyard logs m-unified-0-ab12",
      link: { label: "its log", to: "/models/m?tab=workers&worker=m-unified-0-ab12" },
    },
  ]);
  expect(links("when it may be used again: modelyard uncordon gpu-1.")).toEqual([
    { label: "Uncordon", to: "/fleet?node=gpu-1" },
  ]);
  expect(
    links("modelyard describe model m; or modelyard scale m; and modelyard events --model m"),
  ).toEqual([
    { label: "its page", to: "/models/m" },
    { label: "Scale", to: "/models/m" },
    { label: "its events", to: "/models/m?tab=events" },
  ]);
});

test("what the console has nothing for stays as it is", () => {
  const advice = "modelyard proposals show 7, then take or refuse it";
  expect(pieces(advice, "m")).toEqual([{ text: advice }]);
  expect(pieces("", "m")).toEqual([]);
});
