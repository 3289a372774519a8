import { ApiError } from "../../api/errors";
import { linesOf } from "../../api/lines";
import { begin } from "../../api/stream";
import type { Body } from "./body";
import { type Chunk, chunkOf, dataOf } from "./sse";

export type Served = {
  mode: string;
  workers: string;
  variant: string;
  revision: string;
  from: string;
};

function servedBy(headers: Headers): Served {
  const header = (name: string) => headers.get(`x-modelyard-${name}`) ?? "";
  return {
    mode: header("mode"),
    workers: header("workers"),
    variant: header("variant"),
    revision: header("revision"),
    from: header("fallback-from"),
  };
}

/** Asks, tells who serves it and then each chunk as it comes. Throws ApiError, or what the stream says. */
export async function ask(
  body: Body,
  signal: AbortSignal,
  onServed: (served: Served) => void,
  onChunk: (chunk: Chunk) => void,
): Promise<void> {
  try {
    const response = await begin("/admin/v1/playground", body, signal);
    onServed(servedBy(response.headers));
    for await (const line of linesOf(response)) {
      const data = dataOf(line);
      if (data === null) continue;
      const chunk = chunkOf(data);
      if (chunk === null) return;
      onChunk(chunk);
    }
  } catch (error) {
    if (!signal.aborted || error instanceof ApiError) throw error;
  }
}
