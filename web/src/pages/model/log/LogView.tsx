import { Button, Checkbox, Group, Text, TextInput } from "@mantine/core";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useDeferredValue, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";

import { count } from "../../../parts/quantities";
import { LINES_KEPT, useLog } from "./follow";
import type { Ring } from "./ring";

const LINE_PX = 18;
const AT_END_PX = 4;

/** A worker's log, as it is written: its newest lines, of which only those on screen are drawn. */
export function LogView({ worker, height = "50vh" }: { worker: string; height?: string | number }) {
  const [attempt, setAttempt] = useState(0);
  const { ring, version, ended } = useLog(worker, attempt);
  const [tailing, setTailing] = useState(true);
  const [search, setSearch] = useState("");
  const asked = useDeferredValue(search);
  const found = useMemo(
    () => (asked === "" ? null : ring.search(asked)),
    // The ring is the same one as it grows; its version tells.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [ring, version, asked],
  );
  return (
    <div>
      <Group gap="xs" mb={6}>
        <TextInput
          size="xs"
          w={200}
          aria-label="Only lines with this text"
          placeholder="Only lines with …"
          value={search}
          onChange={(event) => {
            setSearch(event.currentTarget.value);
          }}
        />
        <Checkbox
          size="xs"
          label="Follow the end"
          checked={tailing}
          onChange={(event) => {
            setTailing(event.currentTarget.checked);
          }}
        />
        <Copy ring={ring} />
        <Download ring={ring} worker={worker} />
        <Text size="xs" c="dimmed" className="num" role="status">
          {found === null ? told(ring) : `${count(found.length)} of ${count(ring.length)} lines`}
        </Text>
        {ended !== null && (
          <>
            <Text size="xs" c="dimmed">
              {ended}
            </Text>
            <Button
              size="compact-xs"
              variant="default"
              onClick={() => {
                setAttempt(attempt + 1);
              }}
            >
              Read again
            </Button>
          </>
        )}
      </Group>
      <Written {...{ worker, ring, version, found, tailing, setTailing, height, marked: asked }} />
    </div>
  );
}

function told(ring: Ring): string {
  const kept = `${count(ring.length)} ${ring.length === 1 ? "line" : "lines"}`;
  return ring.total > ring.length ? `the last ${kept} of ${count(ring.total)}` : kept;
}

function Written({
  worker,
  ring,
  version,
  found,
  tailing,
  setTailing,
  height,
  marked,
}: {
  worker: string;
  ring: Ring;
  version: number;
  found: number[] | null;
  tailing: boolean;
  setTailing: (tailing: boolean) => void;
  height: string | number;
  marked: string;
}) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = found === null ? ring.length : found.length;
  // eslint-disable-next-line react-hooks/incompatible-library -- the virtualizer keeps its own state
  const virtual = useVirtualizer({
    count: rows,
    getScrollElement: () => scroller.current,
    estimateSize: () => LINE_PX,
    overscan: 20,
  });
  const first = useRef(ring.first);
  useLayoutEffect(() => {
    const place = scroller.current;
    if (place === null) return;
    if (tailing) place.scrollTop = place.scrollHeight;
    // Lines that fell out above must not move those that are read.
    else if (found === null) place.scrollTop -= (ring.first - first.current) * LINE_PX;
    first.current = ring.first;
  }, [ring, version, rows, tailing, found]);

  const last = useRef(0);
  useEffect(() => {
    last.current = scroller.current?.scrollTop ?? 0;
  });
  const scrolled = () => {
    const place = scroller.current;
    if (place === null) return;
    const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight <= AT_END_PX;
    const up = place.scrollTop < last.current;
    last.current = place.scrollTop;
    if (up && !atEnd && tailing) setTailing(false);
    if (atEnd && !tailing && !up) setTailing(true);
  };
  return (
    <div
      ref={scroller}
      className="log mono"
      style={{ height }}
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex -- scrolled by keyboard
      tabIndex={0}
      role="region"
      aria-label={`Log of ${worker}`}
      onScroll={scrolled}
    >
      <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
        {virtual.getVirtualItems().map((item) => {
          const index = found === null ? item.index : (found[item.index] ?? 0);
          return (
            <div
              key={item.key}
              className="log-line"
              style={{ height: LINE_PX, transform: `translateY(${item.start}px)` }}
            >
              <span className="log-number" aria-hidden>
                {ring.first + index}
              </span>
              <Marked line={ring.at(index)} text={marked} />
            </div>
          );
        })}
      </div>
      {rows === 0 && (
        <Text size="xs" c="dimmed" p="xs">
          {found === null ? "Nothing is written yet." : "No line has this text."}
        </Text>
      )}
    </div>
  );
}

function Marked({ line, text }: { line: string; text: string }) {
  const at = text === "" ? -1 : line.toLowerCase().indexOf(text.toLowerCase());
  if (at < 0) return line;
  return (
    <>
      {line.slice(0, at)}
      <mark>{line.slice(at, at + text.length)}</mark>
      {line.slice(at + text.length)}
    </>
  );
}

function Copy({ ring }: { ring: Ring }) {
  const [said, setSaid] = useState("Copy");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(ring.all().join("\n"));
      setSaid("Copied");
    } catch {
      // Only pages of https and localhost may.
      setSaid("The browser forbids it");
    }
    window.setTimeout(() => {
      setSaid("Copy");
    }, 2000);
  };
  return (
    <Button size="compact-xs" variant="default" onClick={() => void copy()}>
      {said}
    </Button>
  );
}

function Download({ ring, worker }: { ring: Ring; worker: string }) {
  const save = () => {
    const url = URL.createObjectURL(
      new Blob([ring.all().join("\n"), "\n"], { type: "text/plain" }),
    );
    const link = document.createElement("a");
    link.href = url;
    link.download = `${worker}.log`;
    link.click();
    URL.revokeObjectURL(url);
  };
  return (
    <Button
      size="compact-xs"
      variant="default"
      title={`What is shown here: the last ${count(LINES_KEPT)} lines at most`}
      onClick={save}
    >
      Download
    </Button>
  );
}
