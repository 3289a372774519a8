import type { Filter } from "../../parts/fleet/fleet";

const GIB = 1024 ** 3;

/** What the page's address asks for. */
export function filterOf(address: URLSearchParams): Filter {
  const free = Number(address.get("free") ?? "");
  return {
    state: address.get("state") ?? "",
    model: address.get("model") ?? "",
    label: address.get("label") ?? "",
    text: address.get("search") ?? "",
    freeBytes: Number.isFinite(free) ? Math.max(0, free) * GIB : 0,
  };
}
