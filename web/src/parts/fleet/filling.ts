import { colourOf, type FleetDevice, type Index } from "./fleet";

const EDGE = "var(--mantine-color-body)";
const USED = "var(--mantine-color-text)";

/**
 * A device as a picture: from below what is claimed, in the colours of the models, and over it a
 * line at what was seen in use. One picture and no element for each claim: on a large fleet the
 * elements were most of what a scroll cost. Pure.
 */
export function filling(device: FleetDevice, index: Index): string {
  const share = (of: number) =>
    `${Math.min(100, Math.round((1000 * of) / device.memory_bytes) / 10)}%`;
  const pictures: string[] = [];
  if (device.used_bytes > 0) {
    const at = share(device.used_bytes);
    pictures.push(
      layers(["transparent", `calc(${at} - 2px)`], [USED, at], ["transparent", "100%"]),
    );
  }
  let claimed = 0;
  const stacked: Layer[] = [];
  for (const { worker, memory_bytes } of device.claims) {
    claimed += memory_bytes;
    const top = share(claimed);
    stacked.push(
      [colourOf(index.workers.get(worker)?.model ?? ""), `calc(${top} - 1px)`],
      [EDGE, top],
    );
  }
  if (stacked.length > 0) pictures.push(layers(...stacked, ["transparent", "100%"]));
  return pictures.join(", ");
}

/** A colour, and up to where. */
type Layer = readonly [colour: string, top: string];

function layers(...of: readonly Layer[]): string {
  const stops = of.map(([colour, top], at) => `${colour} ${of[at - 1]?.[1] ?? "0"} ${top}`);
  return `linear-gradient(to top, ${stops.join(", ")})`;
}
