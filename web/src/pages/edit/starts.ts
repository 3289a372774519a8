import { asYaml, edited, type Path } from "./document";

// Texts that a new model begins with. Each is whole: it can be applied once its name and source fit.

export type Start = { key: string; label: string; text: string };

const HEAD = (name: string) => `# What clients name in "model".
name: ${name}
# hf://org/name[@revision], file:///directory, or pypi://package==version#path/in/package
source: hf://Qwen/Qwen2.5-0.5B-Instruct
`;

export const STARTS: readonly Start[] = [
  {
    key: "aggregated",
    label: "Aggregated",
    text: `${HEAD("my-model")}variants:
  - engine: vllm
    # Each worker does both phases.
    topology: {type: aggregated, workers: 1, memory: 4GiB}
`,
  },
  {
    key: "disaggregated",
    label: "Prefill and decode, 1 : 1",
    text: `${HEAD("my-model")}variants:
  - engine: vllm
    # Prefill hands its KV to decode. Each role is placed, scaled and set up alone.
    topology:
      type: disaggregated
      prefill: {workers: 1, memory: 4GiB}
      decode: {workers: 1, memory: 4GiB}
`,
  },
  {
    key: "external",
    label: "External",
    text: `# Engines that run elsewhere: probed, routed, limited and metered, neither started nor stopped.
name: my-model
variants:
  - engine: openai # or vllm, sglang: then their health and metrics are read too
    topology:
      type: external
      served_name: "" # the model's name there, if it is another
      workers:
        - url: "https://llm.example.org"
`,
  },
];

/** What a copy of a model's spec begins with. */
export function copyOf(spec: Readonly<Record<string, unknown>>): string {
  return asYaml({ ...spec, name: `${String(spec.name)}-copy` });
}

type Spec = Readonly<Record<string, unknown>>;

/** Of a topology, what is not its workers'. */
const NOT_OF_ROLES = ["type", "transfer", "locality", "bypass", "ratio", "prefill", "decode"];

/** *text* with the variant at *path* in another topology; its workers keep what they are given. */
export function reshaped(text: string, path: Path, topology: Spec, type: string): string {
  const at = [...path, "topology"];
  if (topology.type === type) return text;
  const own = Object.fromEntries(
    Object.entries(topology).filter(([field]) => !NOT_OF_ROLES.includes(field)),
  );
  const role = (name: string): Spec => {
    if (topology.type === "external") return { workers: 1 };
    return topology.type === "disaggregated" ? ((topology[name] ?? {}) as Spec) : own;
  };
  if (type === "disaggregated") {
    return edited(text, at, { type, prefill: role("prefill"), decode: role("decode") });
  }
  if (type === "aggregated") {
    return edited(text, at, { type, ...role("decode") });
  }
  return edited(text, at, { type, workers: [{ url: "http://127.0.0.1:8000" }] });
}
