/** What is measured of an answer, in the browser: milliseconds since the request was sent. */
export type Timing = { first_ms: number | null; last_ms: number; tokens: number };

export const NOT_YET: Timing = { first_ms: null, last_ms: 0, tokens: 0 };

/** One more piece of text came *at_ms*; pieces are counted until the usage says how many tokens. */
export function tick(timing: Timing, at_ms: number): Timing {
  return { first_ms: timing.first_ms ?? at_ms, last_ms: at_ms, tokens: timing.tokens + 1 };
}

export function ttftS(timing: Timing): number | null {
  return timing.first_ms === null ? null : timing.first_ms / 1000;
}

/** Mean time per output token after the first. */
export function tpotS(timing: Timing): number | null {
  if (timing.first_ms === null || timing.tokens < 2) return null;
  return (timing.last_ms - timing.first_ms) / 1000 / (timing.tokens - 1);
}
