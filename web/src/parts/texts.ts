/** The smallest change that leads from one text to another: cursor and scroll stay where they are. */
export function between(
  before: string,
  after: string,
): { from: number; to: number; insert: string } | null {
  if (before === after) return null;
  const most = Math.min(before.length, after.length);
  let same = 0;
  while (same < most && before[same] === after[same]) same += 1;
  let tail = 0;
  while (tail < most - same && before.at(-1 - tail) === after.at(-1 - tail)) tail += 1;
  return {
    from: same,
    to: before.length - tail,
    insert: after.slice(same, after.length - tail),
  };
}
