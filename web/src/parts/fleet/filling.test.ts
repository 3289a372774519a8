import { expect, it } from "vitest";

import { filling } from "./filling";
import { colourOf, type FleetDevice, type Index, indexed } from "./fleet";

const DEVICE: FleetDevice = {
  id: "one/cuda0",
  index: 0,
  model: "H100",
  memory_bytes: 80,
  used_bytes: 0,
  island: "",
  quarantine: "",
  overuse: "",
  claims: [],
};
const INDEX: Index = indexed({
  version: 1,
  nodes: [],
  workers: ["a", "b"].map((model) => ({
    id: `${model}-0`,
    model,
    variant: "default",
    role: "unified",
    ordinal: 0,
    revision: 1,
    phase: "ready",
    departing: false,
    node: "one",
  })),
});

it("is nothing where nobody claims or uses anything", () => {
  expect(filling(DEVICE, INDEX)).toBe("");
});

it("stacks claims from below in the colours of their models, each with an edge", () => {
  const claims = [
    { worker: "a-0", memory_bytes: 20 },
    { worker: "b-0", memory_bytes: 40 },
  ];
  const edge = "var(--mantine-color-body)";
  expect(filling({ ...DEVICE, claims }, INDEX)).toBe(
    `linear-gradient(to top, ${colourOf("a")} 0 calc(25% - 1px), ${edge} calc(25% - 1px) 25%, ` +
      `${colourOf("b")} 25% calc(75% - 1px), ${edge} calc(75% - 1px) 75%, transparent 75% 100%)`,
  );
});

it("draws what is in use as a line over the claims, at most at the top", () => {
  const line = (at: string) =>
    `linear-gradient(to top, transparent 0 calc(${at} - 2px), var(--mantine-color-text) calc(${at} - 2px) ${at}, transparent ${at} 100%)`;
  expect(filling({ ...DEVICE, used_bytes: 30 }, INDEX)).toBe(line("37.5%"));
  const both = filling(
    { ...DEVICE, used_bytes: 90, claims: [{ worker: "a-0", memory_bytes: 80 }] },
    INDEX,
  );
  expect(both.startsWith(`${line("100%")}, linear-gradient(to top, ${colourOf("a")} 0 `)).toBe(
    true,
  );
});
