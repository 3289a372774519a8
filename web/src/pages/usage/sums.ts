import type { Schemas } from "../../api/client";

type Usage = Schemas["UsageView"];

/** The days from *since* up to *until*, both included, as the API writes them. */
export function daysOf(since: string, until: string): string[] {
  const days: string[] = [];
  const last = Date.parse(`${until}T00:00:00Z`);
  for (let at = Date.parse(`${since}T00:00:00Z`); at <= last; at += 86_400_000) {
    days.push(new Date(at).toISOString().slice(0, 10));
  }
  return days;
}

/** What *value* sums up to on each day; a day without usage is 0. */
export function overDays(
  items: readonly Usage[],
  days: readonly string[],
  value: (item: Usage) => number,
): number[] {
  const sums = new Map<string, number>();
  for (const item of items) sums.set(item.day, (sums.get(item.day) ?? 0) + value(item));
  return days.map((day) => sums.get(day) ?? 0);
}

export type Sum = Pick<
  Usage,
  | "key_id"
  | "key_name"
  | "model"
  | "requests"
  | "errors"
  | "prompt_tokens"
  | "completion_tokens"
  | "cost"
>;

/** The same without its days: one sum for each key and model, the most tokens first. */
export function byKeyAndModel(items: readonly Usage[]): Sum[] {
  const sums = new Map<string, Sum>();
  for (const item of items) {
    const id = `${item.key_id} ${item.model}`;
    const known = sums.get(id);
    sums.set(
      id,
      known === undefined
        ? { ...item }
        : {
            ...known,
            requests: known.requests + item.requests,
            errors: known.errors + item.errors,
            prompt_tokens: known.prompt_tokens + item.prompt_tokens,
            completion_tokens: known.completion_tokens + item.completion_tokens,
            cost: known.cost + item.cost,
          },
    );
  }
  const tokens = (sum: Sum) => sum.prompt_tokens + sum.completion_tokens;
  return [...sums.values()].sort((a, b) => tokens(b) - tokens(a));
}
