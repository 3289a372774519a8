import { Paper, Text, useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";
import uPlot from "uplot";

export type Line = { label: string; colour: string; values: readonly (number | null)[] };

/** The colours of lines: apart for people who see red and green alike, in light and dark. */
export const LINES = ["#1c7ed6", "#e8590c", "#2b8a3e", "#9c36b5"] as const;

/** What the values are over where that is not time. *mark* is a value of it that matters. */
export type Across = {
  label: string;
  format: (value: number) => string;
  mark?: { at: number; label: string };
};

/**
 * Values over time, or over *across*. *summary* says the newest of them in words, for those who cannot see it and
 * for those who want the number.
 */
export function Chart({
  title,
  summary,
  at,
  across,
  lines,
  format,
  height = 170,
}: {
  title: string;
  summary: string;
  /** Seconds since the epoch, or values of *across*; rising. */
  at: readonly number[];
  across?: Across;
  lines: readonly Line[];
  format: (value: number) => string;
  height?: number;
}) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useComputedColorScheme("light") === "dark";
  const drawn = lines.map((line) => [line.label, line.colour]);
  const shape = JSON.stringify([drawn, dark, height, across]);

  useEffect(() => {
    if (place.current === null) return;
    const ink = dark ? "#c1c2c5" : "#495057";
    const grid = { stroke: dark ? "#373a40" : "#e9ecef", width: 1 };
    const axis: uPlot.Axis = { stroke: ink, grid, ticks: grid };
    const made = new uPlot(
      {
        width: 300,
        height,
        scales: {
          x: { time: across === undefined },
          y: { range: (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.1 : 1] },
        },
        axes: [overX(axis, across), { ...axis, size: 70, values: (_, ticks) => ticks.map(format) }],
        series: [
          across === undefined ? {} : { label: across.label, value: said(across.format) },
          ...lines.map((line) => ({
            label: line.label,
            stroke: line.colour,
            width: 2,
            value: said(format),
          })),
        ],
        hooks: across?.mark === undefined ? {} : { draw: [marking(across.mark, ink)] },
      },
      [[...at], ...lines.map((line) => [...line.values])],
      place.current,
    );
    plot.current = made;
    return () => {
      made.destroy();
      plot.current = null;
    };
    // Made anew where its form changes; its values are put in below.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape]);

  useEffect(() => {
    plot.current?.setData([[...at], ...lines.map((line) => [...line.values])]);
  }, [at, lines, shape]);

  useEffect(() => {
    const frame = place.current;
    if (frame === null) return;
    const observer = new ResizeObserver(() => {
      if (frame.clientWidth > 0) plot.current?.setSize({ width: frame.clientWidth, height });
    });
    observer.observe(frame);
    return () => {
      observer.disconnect();
    };
  }, [height, shape]);

  return (
    <Paper withBorder p="sm" component="figure" m={0}>
      <Text component="figcaption" size="sm">
        <b>{title}</b> <span className="num">{summary}</span>
      </Text>
      <div ref={place} aria-hidden style={{ overflow: "hidden" }} />
    </Paper>
  );
}

function said(format: (value: number) => string) {
  return (_: uPlot, value: number | null) => (value === null ? "–" : format(value));
}

function overX(axis: uPlot.Axis, across: Across | undefined): uPlot.Axis {
  if (across === undefined) return axis;
  return {
    ...axis,
    label: across.label,
    labelSize: 20,
    values: (_, ticks) => ticks.map(across.format),
  };
}

/** Draws a dashed line from top to bottom, with its label beside it. */
function marking({ at, label }: { at: number; label: string }, ink: string) {
  return (plot: uPlot) => {
    const { ctx, bbox } = plot;
    const x = plot.valToPos(at, "x", true);
    const gap = 4 * uPlot.pxRatio;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = ink;
    ctx.lineWidth = uPlot.pxRatio;
    ctx.setLineDash([gap, gap]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.font = `${12 * uPlot.pxRatio}px system-ui, sans-serif`;
    ctx.textBaseline = "top";
    ctx.textAlign = x > bbox.left + bbox.width / 2 ? "right" : "left";
    ctx.fillText(label, ctx.textAlign === "left" ? x + gap : x - gap, bbox.top + gap);
    ctx.restore();
  };
}
