import { describe, expect, it } from "vitest";

import { shown, turnoverWords } from "./words";

describe("a value", () => {
  it("is what YAML has, and a dash where there is none", () => {
    expect(shown(null)).toBe("–");
    expect(shown(0)).toBe("0");
    expect(shown(false)).toBe("false");
    expect(shown("")).toBe('""');
    expect(shown([25, 100])).toBe("- 25\n- 100");
    expect(shown({ workers: 2 })).toBe("workers: 2");
  });
});

describe("what happens to workers", () => {
  const none = {
    variant: "default",
    role: "prefill" as const,
    kept: 0,
    replaced: 0,
    started: 0,
    stopped: 0,
  };
  it("is told in words", () => {
    expect(turnoverWords({ ...none, started: 1, replaced: 2, kept: 1 })).toBe(
      "default prefill: 1 starts, 2 are replaced, 1 stays",
    );
    expect(turnoverWords({ ...none, role: "unified", stopped: 2 })).toBe("default: 2 stop");
  });
  it("is nothing where all stay", () => {
    expect(turnoverWords({ ...none, kept: 3 })).toBe("");
  });
});
