import type { Query } from "@tanstack/react-query";

type Asked = Pick<Query, "observers"> & { state: { fetchFailureCount: number } };

/** Of a page without a stream: whether it asks again by itself, and is answered. Pure. */
export function ofPolls(queries: readonly Asked[]): "refreshed" | "silent" | "paused" {
  const polled = queries.filter(({ observers }) =>
    observers.some(({ options }) => Boolean(options.refetchInterval)),
  );
  if (polled.length === 0) return "paused";
  return polled.some(({ state }) => state.fetchFailureCount > 0) ? "silent" : "refreshed";
}
