import type { Schemas } from "../../../api/client";

// From the numbers on the page to what the API is asked for. Pure.

export type ScaleWish = { variant: string; workers?: number; prefill?: number; decode?: number };

const FIELDS = { unified: "workers", prefill: "prefill", decode: "decode" } as const;

/** What of *typed* differs from what is wanted now; null: nothing does. */
export function wishOf(
  variant: Pick<Schemas["VariantView"], "name" | "roles">,
  typed: Partial<Record<Schemas["Role"], number>>,
): ScaleWish | null {
  const wish: ScaleWish = { variant: variant.name };
  let differs = false;
  for (const count of variant.roles) {
    const value = typed[count.role];
    if (value === undefined || value === count.desired) continue;
    wish[FIELDS[count.role]] = value;
    differs = true;
  }
  return differs ? wish : null;
}

export function roleLabel(count: Schemas["RoleCount"]): string {
  const name = count.role === "unified" ? "workers" : count.role;
  const { autoscale } = count;
  return autoscale ? `${name} (${autoscale.workers_min}–${autoscale.workers_max} by load)` : name;
}
