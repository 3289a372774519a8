import type { Schemas } from "../../api/client";
import { count } from "../../parts/quantities";

export type LimitsForm = {
  requests_per_minute: number | "";
  tokens_per_minute: number | "";
  in_flight: number | "";
  budget_amount: number | "";
  budget_period: Schemas["BudgetPeriod"];
};

export const NO_LIMITS: LimitsForm = {
  requests_per_minute: "",
  tokens_per_minute: "",
  in_flight: "",
  budget_amount: "",
  budget_period: "month",
};

/** A key's limits as a form has them: nothing where there is no limit. */
export function formOf(limits: Schemas["KeyLimitsView"]): LimitsForm {
  return {
    requests_per_minute: limits.requests_per_minute || "",
    tokens_per_minute: limits.tokens_per_minute || "",
    in_flight: limits.in_flight || "",
    budget_amount: limits.budget?.amount ?? "",
    budget_period: limits.budget?.period ?? "month",
  };
}

/** What the API takes; an empty field lifts its limit. */
export function bodyOf(form: LimitsForm) {
  return {
    requests_per_minute: form.requests_per_minute || null,
    tokens_per_minute: form.tokens_per_minute || null,
    in_flight: form.in_flight || null,
    budget:
      form.budget_amount === "" ? null : { amount: form.budget_amount, period: form.budget_period },
  };
}

/** "60 requests/min, 5 of 20 a month". */
export function limitsText(key: Pick<Schemas["KeyView"], "limits" | "spent">): string {
  const { limits } = key;
  const parts = [
    limits.requests_per_minute > 0 && `${count(limits.requests_per_minute)} requests/min`,
    limits.tokens_per_minute > 0 && `${count(limits.tokens_per_minute)} tokens/min`,
    limits.in_flight > 0 && `${count(limits.in_flight)} at once`,
    limits.budget !== null &&
      `${key.spent.amount} of ${limits.budget.amount} spent (${limits.budget.period})`,
  ].filter((part) => part !== false);
  return parts.length === 0 ? "none" : parts.join(", ");
}
