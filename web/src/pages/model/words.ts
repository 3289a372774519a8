import { stringify } from "yaml";

import type { Schemas } from "../../api/client";

// Differences of specs, in words. Pure.

/** A value of a spec as its YAML has it. */
export function shown(value: unknown): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value === "" ? '""' : value;
  return stringify(value).trimEnd();
}

/** "default prefill: 1 starts, 2 are replaced"; "" where all stay. */
export function turnoverWords(of: Schemas["Turnover"]): string {
  const parts = [
    many(of.started, "starts", "start"),
    many(of.replaced, "is replaced", "are replaced"),
    many(of.stopped, "stops", "stop"),
  ].filter((part) => part !== "");
  if (parts.length === 0) return "";
  const stays = many(of.kept, "stays", "stay");
  const role = of.role === "unified" ? "" : ` ${of.role}`;
  return `${of.variant}${role}: ${[...parts, ...(stays === "" ? [] : [stays])].join(", ")}`;
}

function many(count: number, one: string, more: string): string {
  return count === 0 ? "" : `${count} ${count === 1 ? one : more}`;
}
