// Numbers for people. What was not measured is a dash, never a zero.

const NONE = "–";
const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const TIB = 1024 ** 4;
// Kept, as each `toLocaleString` looks its locale up anew: 50 times what the rest of a number costs.
const WHOLE = new Intl.NumberFormat("en-US");

/** Seconds → "850 µs", "12 ms", "1.4 s", "3 min", "2 h". */
export function seconds(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0 s";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${short(value * 1000)} ms`;
  if (value < 120) return `${short(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  if (value < 172_800) return `${Math.round(value / 3600)} h`;
  return `${Math.round(value / 86_400)} d`;
}

/** Something per second. */
export function rate(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : short(value);
}

export function percent(share: number | null | undefined): string {
  return share === null || share === undefined ? NONE : `${short(share * 100)} %`;
}

export function bytes(value: number | null | undefined): string {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0 B";
  if (value >= TIB) return `${short(value / TIB)} TiB`;
  if (value >= GIB) return `${short(value / GIB)} GiB`;
  if (value >= MIB) return `${short(value / MIB)} MiB`;
  return `${Math.round(value / 1024)} KiB`;
}

export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? NONE : WHOLE.format(value);
}

/** Three figures at most: 0.04, 1.2, 47, 1,204, 32.1k. */
export function short(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.01) return value.toExponential(0);
  if (size < 1) return value.toFixed(2);
  if (size < 10) return value.toFixed(1);
  if (size < 10_000) return WHOLE.format(Math.round(value));
  if (size < 1e6) return `${(value / 1000).toFixed(1)}k`;
  return `${(value / 1e6).toFixed(1)}M`;
}
