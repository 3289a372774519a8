import { Table, Text } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import {
  type KeyboardEvent,
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

const ROW_PX = 40;

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
    overscan: 12,
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
  const cell = (column: Column<T>): React.CSSProperties => ({
    textAlign: column.align ?? "left",
    overflow: "hidden",
    textOverflow: "ellipsis",
    whiteSpace: "nowrap",
    fontSize: "var(--mantine-font-size-sm)",
    padding: "0 8px",
  });
  const line: React.CSSProperties = {
    display: "grid",
    gridTemplateColumns: tracks,
    alignItems: "center",
    height: ROW_PX,
  };
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
        className="num"
        style={{ minWidth }}
      >
        <div
          role="rowgroup"
          style={{ position: "sticky", top: 0, zIndex: 1, background: "var(--mantine-color-body)" }}
        >
          <div
            role="row"
            aria-rowindex={1}
            style={{ ...line, borderBottom: "1px solid var(--mantine-color-default-border)" }}
          >
            {columns.map((column) => (
              <Text key={column.key} role="columnheader" size="sm" fw={600} style={cell(column)}>
                {column.title}
              </Text>
            ))}
          </div>
        </div>
        <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {virtual.getVirtualItems().map((item) => {
            const row = rows[item.index];
            if (row === undefined) return null;
            return (
              <div
                key={item.key}
                role="row"
                aria-rowindex={item.index + 2}
                style={{
                  ...line,
                  position: "absolute",
                  left: 0,
                  right: 0,
                  transform: `translateY(${item.start}px)`,
                  borderBottom: "1px solid var(--mantine-color-default-border)",
                }}
              >
                {columns.map((column) => (
                  // Not a part of the library: there are hundreds, and each costs.
                  <div key={column.key} role="cell" style={cell(column)}>
                    {column.render(row)}
                  </div>
                ))}
              </div>
            );
          })}
        </div>
      </div>
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
