import { expect, it } from "vitest";

import { isRead, read } from "./document";
import { handed, recommendedText } from "./recommended";

const RECOMMENDED = {
  name: "chat",
  source: "hf://acme/chat",
  slo: { ttft_s: 1, tpot_s: 0.05 },
  variants: [{ engine: "vllm", topology: { type: "aggregated", workers: 2 } }],
};

function specOf(text: string) {
  const found = read(text);
  return isRead(found) ? found.spec : null;
}

it("a new model begins with all that is recommended", () => {
  expect(specOf(recommendedText(RECOMMENDED, null))).toEqual(RECOMMENDED);
});

it("a model that is there keeps what the planner does not speak of", () => {
  const there = {
    name: "chat",
    source: "hf://acme/chat",
    limits: { requests_per_minute: 60 },
    price: { prompt: 1 },
    slo: { ttft_s: 2 },
    variants: [{ engine: "sglang", topology: { type: "aggregated" } }],
  };
  expect(specOf(recommendedText(RECOMMENDED, there))).toEqual({
    ...RECOMMENDED,
    limits: there.limits,
    price: there.price,
  });
});

it("an address may be reached without a recommendation", () => {
  expect([null, undefined, "x", {}, { recommended: null }].map(handed)).toEqual(
    Array(5).fill(null),
  );
  expect(handed({ recommended: RECOMMENDED })).toBe(RECOMMENDED);
});
