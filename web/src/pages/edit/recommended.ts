import { asYaml } from "./document";

type Spec = Readonly<Record<string, unknown>>;

/** What the planner's page hands to the editor with its address. */
export type Handed = { recommended: Spec };

export function handed(state: unknown): Spec | null {
  if (typeof state !== "object" || state === null || !("recommended" in state)) return null;
  const { recommended } = state;
  return typeof recommended === "object" && recommended !== null ? (recommended as Spec) : null;
}

/**
 * What the editor begins with. Of a model that is there, all stays that the planner does not speak
 * of: routing, limits, prices, and so on.
 */
export function recommendedText(recommended: Spec, there: Spec | null): string {
  if (there === null) return asYaml(recommended);
  const { source, slo, variants } = recommended;
  return asYaml({ ...there, source, slo, variants });
}
