import { describe, expect, it } from "vitest";

import { asYaml, edited, fieldOf, isRead, lineOf, read, typed, valueAt } from "./document";

const TEXT = `# Chat, for everybody.
name: chat # its name for clients
source: hf://org/chat

variants:
  - engine: vllm
    # Two, as one was too slow.
    topology: {type: aggregated, workers: 2, memory: 4GiB}
    placement:
      labels: {rack.zone: a, rack: b}
limits: {queued: 10}
`;

function reads(text: string) {
  const found = read(text);
  if (!isRead(found)) throw new Error(found.message);
  return found;
}

function refusal(text: string) {
  const found = read(text);
  if (isRead(found)) throw new Error("it was read");
  return found;
}

describe("a change by the form", () => {
  it("leaves comments, order and the form of all else as they are", () => {
    const changed = edited(TEXT, ["variants", 0, "topology", "workers"], 3);
    expect(changed).toBe(TEXT.replace("workers: 2", "workers: 3"));
  });

  it("makes the mappings on the way where they are missing", () => {
    const changed = edited(TEXT, ["slo", "ttft_s"], 0.5);
    expect(changed).toBe(`${TEXT}slo:\n  ttft_s: 0.5\n`);
  });

  it("takes a mapping away that it leaves empty, and nothing else", () => {
    const changed = edited(TEXT, ["limits", "queued"], undefined);
    expect(changed).toBe(TEXT.replace("limits: {queued: 10}\n", ""));
    expect(edited(TEXT, ["limits", "in_flight"], undefined)).toBe(TEXT);
  });

  it("fills what is there and empty", () => {
    const changed = edited("name: a\nlimits:\n", ["limits", "queued"], 1);
    expect(reads(changed).spec).toEqual({ name: "a", limits: { queued: 1 } });
  });

  it("changes one of two that share an anchor", () => {
    const text = "name: a\nvariants:\n  - &v {name: x, weight: 1}\n  - *v\n";
    const changed = edited(text, ["variants", 1, "weight"], 2);
    expect(valueAt(reads(changed).spec, ["variants", 0, "weight"])).toBe(1);
    expect(valueAt(reads(changed).spec, ["variants", 1, "weight"])).toBe(2);
  });

  it("goes into the one model of a file", () => {
    const changed = edited("models:\n- name: a\n  priority: 1\n", ["priority"], 7);
    expect(changed).toBe("models:\n- name: a\n  priority: 7\n");
  });

  it("leaves a text alone that cannot be read", () => {
    expect(edited("name: [", ["name"], "x")).toBe("name: [");
  });

  it("quotes what would be read as something else", () => {
    const changed = edited(TEXT, ["owner"], "on");
    expect(reads(changed).spec.owner).toBe("on");
  });
});

describe("what is read", () => {
  it("means here what it means to the CLI", () => {
    const text = "args: {a: yes, b: off, c: 'no'}\nfallback: {on: [error]}\n";
    expect(reads(text).spec).toEqual({
      args: { a: true, b: false, c: "no" },
      fallback: { on: ["error"] },
    });
  });

  it("is one model", () => {
    expect(refusal("name: a\n---\nname: b\n").line).toBe(3);
    expect(refusal("models: [{name: a}, {name: b}]").message).toContain("one");
    expect(refusal("").message).toContain("empty");
    expect(refusal("- a").message).toContain("mapping");
  });

  it("says in which line it goes wrong", () => {
    expect(refusal("name: a\nvariants: [\n").line).toBeGreaterThan(1);
    expect(refusal("name: a\nname: b\n").line).toBe(2);
  });
});

describe("an error's field", () => {
  it("is found in its line", () => {
    const found = reads(TEXT);
    expect(lineOf(found, "name")).toBe(2);
    expect(lineOf(found, "variants[0].engine")).toBe(6);
    expect(lineOf(found, "variants[0].topology.memory")).toBe(8);
    expect(lineOf(found, "limits.queued")).toBe(11);
  });

  it("is the line around it where it is missing", () => {
    const found = reads(TEXT);
    expect(lineOf(found, "variants[0].topology.prefill")).toBe(8);
    expect(lineOf(found, "variants[7].engine")).toBe(5);
    expect(lineOf(found, "task")).toBe(2);
  });

  it("may have dots in a key", () => {
    const found = reads("labels:\n  rack: b\n  rack.zone: a\n");
    expect(lineOf(found, "labels.rack.zone")).toBe(3);
    expect(lineOf(found, "labels.rack")).toBe(2);
  });

  it("is found in the one model of a file", () => {
    expect(lineOf(reads("models:\n  - name: a\n    task: sing\n"), "task")).toBe(3);
  });

  it("is written as the API writes it", () => {
    expect(fieldOf(["variants", 0, "topology", "args", "x"])).toBe("variants[0].topology.args.x");
  });
});

it("a spec nobody wrote has short lists on one line", () => {
  expect(asYaml({ name: "a", rollout: { canary: [5, 100] } })).toBe(
    "name: a\nrollout:\n  canary: [5, 100]\n",
  );
});

it("a flag's value has the type that it looks like", () => {
  expect(["7", "0.5", "true", "off", "auto", "a: b", ""].map(typed)).toEqual([
    7,
    0.5,
    true,
    false,
    "auto",
    "a: b",
    "",
  ]);
});
