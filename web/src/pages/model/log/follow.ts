import { useEffect, useRef, useState } from "react";

import { ApiError, sentence } from "../../../api/errors";
import { Lines, Ring } from "./ring";

export const LINES_KEPT = 10_000;

export type Log = {
  ring: Ring;
  /** Changes with the ring, once a frame at most. */
  version: number;
  /** What has become of the stream, in words; null: it is followed. */
  ended: string | null;
};

/** A worker's log as it grows. Another *attempt* reads it anew. */
export function useLog(worker: string, attempt: number): Log {
  const [log, setLog] = useState<Log>(() => fresh());
  const key = `${worker} ${attempt}`;
  const [read, setRead] = useState(key);
  if (read !== key) {
    setRead(key);
    setLog(fresh());
  }
  const frame = useRef(0);
  useEffect(() => {
    const stop = new AbortController();
    const ring = new Ring(LINES_KEPT);
    let waiting: string[] = [];
    let ended: string | null = null;
    const show = () => {
      frame.current = 0;
      ring.push(waiting);
      waiting = [];
      setLog({ ring, version: ring.total, ended });
    };
    // A burst of thousands of chunks is drawn once, when the screen is.
    const soon = () => {
      if (frame.current === 0) frame.current = requestAnimationFrame(show);
    };
    const add = (lines: string[]) => {
      waiting.push(...lines);
      if (waiting.length > LINES_KEPT) {
        ring.push(waiting);
        waiting = [];
      }
      soon();
    };
    void follow(worker, stop.signal, add).then((why) => {
      if (stop.signal.aborted) return;
      ended = why;
      soon();
    });
    return () => {
      stop.abort();
      cancelAnimationFrame(frame.current);
      frame.current = 0;
    };
  }, [worker, attempt]);
  return log;
}

function fresh(): Log {
  return { ring: new Ring(LINES_KEPT), version: 0, ended: null };
}

/** Until it ends: why it did. */
async function follow(
  worker: string,
  signal: AbortSignal,
  add: (lines: string[]) => void,
): Promise<string> {
  const url = `/admin/v1/workers/${encodeURIComponent(worker)}/logs?tail=${LINES_KEPT}&follow=true`;
  try {
    const answer = await fetch(url, { signal });
    if (!answer.ok) throw await ApiError.from(answer);
    const reader = answer.body?.getReader();
    const lines = new Lines();
    while (reader !== undefined) {
      const { done, value } = await reader.read();
      if (done) break;
      add(lines.take(value));
    }
    add(lines.end());
    return "The log has ended.";
  } catch (error) {
    if (error instanceof ApiError) return sentence(error);
    return "The connection to the gateway broke.";
  }
}
