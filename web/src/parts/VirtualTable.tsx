import "./VirtualTable.css";

import { Table, Text } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
  memo,
  type ReactNode,
  type Ref,
  useEffect,
  useImperativeHandle,
  useRef,
} from "react";

export type Column<T> = {
  key: string;
  title: string;
  /** A CSS grid track: "2fr", "120px". */
  width: string;
  align?: "left" | "right";
  render: (row: T) => ReactNode;
};

/** What a page can ask of its table. */
export type TableHandle = { focusRow: (index: number) => void };

const ROW_PX = 40; // as in the style sheet

/**
 * A table of which only what is on screen is in the page: thousands of rows scroll like ten.
 * Its rows have one height; roles and counts tell assistive technology the whole. Where rows have
 * links or buttons, arrows, Page Up and Down, Home and End lead from the first one of a row to that
 * of another.
 */
export function VirtualTable<T>({
  label,
  columns,
  rows,
  rowKey,
  empty,
  height = "calc(100vh - 220px)",
  minWidth,
  handle,
}: {
  label: string;
  columns: readonly Column<T>[];
  rows: readonly T[];
  rowKey: (row: T) => string;
  /** Said where there are no rows. */
  empty: ReactNode;
  height?: string | number;
  /** Pixels below which it scrolls sideways rather than squeezes its columns. */
  minWidth?: number;
  handle?: Ref<TableHandle>;
}) {
  const scroller = useRef<HTMLDivElement>(null);
  // eslint-disable-next-line react-hooks/incompatible-library -- the virtualizer keeps its own state
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: () => ROW_PX,
    overscan: 5, // each costs, and with none a scroll would show blanks
    scrollPaddingEnd: ROW_PX, // the head is above the rows
    getItemKey: (index) => {
      const row = rows[index];
      return row === undefined ? index : rowKey(row);
    },
  });
  // The row that is to be focused as soon as it is in the page, which a scroll brings it into.
  const wanted = useRef<number | null>(null);
  const settle = () => {
    const row = scroller.current?.querySelector(`[aria-rowindex="${(wanted.current ?? -2) + 2}"]`);
    if (wanted.current === null || !row) return;
    wanted.current = null;
    row.querySelector<HTMLElement>("a, button")?.focus({ preventScroll: true });
  };
  const focusRow = (index: number) => {
    wanted.current = index;
    virtual.scrollToIndex(index, { align: "auto" });
    settle();
  };
  useEffect(settle);
  useImperativeHandle(handle, () => ({ focusRow }));
  const move = (event: KeyboardEvent<HTMLDivElement>) => {
    const row = (event.target as HTMLElement).closest("[aria-rowindex]");
    const page = Math.max(1, Math.floor((scroller.current?.clientHeight ?? 0) / ROW_PX) - 2);
    const at = row === null ? -1 : Number(row.getAttribute("aria-rowindex")) - 2;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page }[
      event.key
    ];
    const edge = { Home: 0, End: rows.length - 1 }[event.key];
    if (row === null || (to === undefined && edge === undefined)) return;
    event.preventDefault();
    focusRow(Math.min(Math.max(to ?? edge ?? 0, 0), rows.length - 1));
  };
  const tracks = columns.map((column) => column.width).join(" ");
  if (rows.length === 0) return <Text c="dimmed">{empty}</Text>;
  return (
    // A scrolled region has to be reachable by keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions
    <div
      ref={scroller}
      style={{ maxHeight: height, overflow: "auto" }}
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
      tabIndex={0}
      role="region"
      aria-label={label}
      onKeyDown={move}
    >
      <div
        role="table"
        aria-label={label}
        aria-rowcount={rows.length + 1}
        className="table num"
        style={{ minWidth }}
      >
        <div role="rowgroup" className="table-head">
          <div
            role="row"
            aria-rowindex={1}
            className="table-row"
            style={{ gridTemplateColumns: tracks }}
          >
            {columns.map((column) => (
              <div
                key={column.key}
                role="columnheader"
                className="table-cell"
                data-align={column.align}
              >
                {column.title}
              </div>
            ))}
          </div>
        </div>
        <div role="rowgroup" className="table-body" style={{ height: virtual.getTotalSize() }}>
          {virtual.getVirtualItems().map((item) => {
            const row = rows[item.index];
            if (row === undefined) return null;
            return (
              <Row
                key={item.key}
                row={row}
                index={item.index}
                top={item.start}
                columns={columns}
                tracks={tracks}
              />
            );
          })}
        </div>
      </div>
    </div>
  );
}

/** Drawn anew only when its own row is another: not for a scroll, nor for what others tell. */
const Row = memo(RowOf) as typeof RowOf;

function RowOf<T>({
  row,
  index,
  top,
  columns,
  tracks,
}: {
  row: T;
  index: number;
  top: number;
  columns: readonly Column<T>[];
  tracks: string;
}) {
  return (
    <div
      role="row"
      aria-rowindex={index + 2}
      className="table-row"
      style={{ gridTemplateColumns: tracks, transform: `translateY(${top}px)` }}
    >
      {columns.map((column) => (
        // Not a part of the library: there are hundreds, and each costs.
        <div key={column.key} role="cell" className="table-cell" data-align={column.align}>
          {column.render(row)}
        </div>
      ))}
    </div>
  );
}

/** Facts as a table of two columns. */
export function Facts({ of }: { of: readonly (readonly [string, ReactNode])[] }) {
  return (
    <Table withRowBorders={false} verticalSpacing={4} layout="fixed">
      <Table.Tbody>
        {of.map(([name, value]) => (
          <Table.Tr key={name}>
            <Table.Th w={180} fw={500} c="dimmed" ta="left">
              {name}
            </Table.Th>
            <Table.Td className="wrap">{value}</Table.Td>
          </Table.Tr>
        ))}
      </Table.Tbody>
    </Table>
  );
}
