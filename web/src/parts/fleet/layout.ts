import type { FleetNode } from "./fleet";

// Where what is drawn: cards of nodes in rows, cells of devices in cards. Pure, so that links can be
// drawn to cards that are not on screen.

export const CELL = { width: 24, height: 34, gap: 3 } as const;
export const CARD = { padding: 8, header: 24, gap: 8, cellsARow: 8 } as const;
export const CARD_WIDTH =
  CARD.cellsARow * (CELL.width + CELL.gap) - CELL.gap + 2 * CARD.padding + 2; // its border

export type Row = { top: number; height: number; nodes: readonly FleetNode[] };
export type Layout = { columns: number; rows: readonly Row[]; height: number };
export type Spot = { x: number; y: number };

/** As many cards beside each other as *width* has room for, one at least. */
export function layout(nodes: readonly FleetNode[], width: number): Layout {
  const columns = Math.max(1, Math.floor((width + CARD.gap) / (CARD_WIDTH + CARD.gap)));
  const rows: Row[] = [];
  let top = 0;
  for (let first = 0; first < nodes.length; first += columns) {
    const inRow = nodes.slice(first, first + columns);
    const height = Math.max(...inRow.map((node) => cardHeight(node.devices.length)));
    rows.push({ top, height, nodes: inRow });
    top += height + CARD.gap;
  }
  return { columns, rows, height: Math.max(0, top - CARD.gap) };
}

export function cardHeight(devices: number): number {
  const lines = Math.max(1, Math.ceil(devices / CARD.cellsARow));
  return 2 * CARD.padding + 2 + CARD.header + lines * (CELL.height + CELL.gap) - CELL.gap;
}

/** The middle of each device's cell, by the device's id. */
export function spots({ rows }: Layout): ReadonlyMap<string, Spot> {
  const found = new Map<string, Spot>();
  for (const row of rows) {
    row.nodes.forEach((node, column) => {
      node.devices.forEach((device, index) => {
        const across = index % CARD.cellsARow;
        const down = Math.floor(index / CARD.cellsARow);
        found.set(device.id, {
          x:
            column * (CARD_WIDTH + CARD.gap) +
            1 +
            CARD.padding +
            across * (CELL.width + CELL.gap) +
            CELL.width / 2,
          y:
            row.top +
            1 +
            CARD.padding +
            CARD.header +
            down * (CELL.height + CELL.gap) +
            CELL.height / 2,
        });
      });
    });
  }
  return found;
}
