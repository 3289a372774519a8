import type { Schemas } from "../../api/client";

// What of a series is drawn in which chart. Pure.

type Point = Schemas["PointView"];

export type Plot = {
  title: string;
  unit: "seconds" | "rate" | "count";
  lines: readonly {
    label: string;
    values: readonly (number | null)[];
    /** The last one measured. */
    newest: number | null;
  }[];
};

/** About 240 points each: more than a chart has room for tells nothing more. */
export const RANGES = [
  { key: "1h", label: "1 h", sinceS: 3600, stepS: 15 },
  { key: "15m", label: "15 min", sinceS: 900, stepS: 5 },
] as const;

export function plotsOf(series: Schemas["SeriesView"]): Plot[] {
  const { points, step_s: stepS } = series;
  const line = (label: string, of: (point: Point) => number | null) => {
    const values = points.map(of);
    return { label, values, newest: values.findLast((value) => value !== null) ?? null };
  };
  return [
    {
      title: "TTFT: time to the first token",
      unit: "seconds",
      lines: [
        line("median", (point) => point.ttft_p50_s),
        line("95 %", (point) => point.ttft_p95_s),
      ],
    },
    {
      title: "TPOT: time between tokens",
      unit: "seconds",
      lines: [
        line("median", (point) => point.tpot_p50_s),
        line("95 %", (point) => point.tpot_p95_s),
      ],
    },
    {
      title: "E2E: time to the last token",
      unit: "seconds",
      lines: [line("median", (point) => point.e2e_p50_s), line("95 %", (point) => point.e2e_p95_s)],
    },
    {
      title: "Requests per second",
      unit: "rate",
      lines: [
        line("all", (point) => point.requests / stepS),
        line("by prefill and decode", (point) => point.paired / stepS),
      ],
    },
    {
      title: "Tokens per second",
      unit: "rate",
      lines: [
        line("prompts", (point) => point.prompt_tokens / stepS),
        line("answers", (point) => point.completion_tokens / stepS),
      ],
    },
    {
      title: `Errors, in ${stepS} s each`,
      unit: "count",
      lines: [line("errors", (point) => point.errors)],
    },
  ];
}
