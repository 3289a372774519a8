import { changeHeaders } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { Body } from "./body";
import { type Chunk, chunkOf, EventReader } from "./sse";

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
  let response: Response;
  try {
    response = await fetch("/admin/v1/playground", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...changeHeaders() },
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal.aborted) return;
    throw ApiError.unreachable(error);
  }
  if (!response.ok) throw await ApiError.from(response);
  onServed(servedBy(response.headers));
  if (response.body === null) return;
  const reader = new EventReader();
  const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let piece = await text.read(); !piece.done; piece = await text.read()) {
      for (const data of reader.push(piece.value)) {
        const chunk = chunkOf(data);
        if (chunk === null) return;
        onChunk(chunk);
      }
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
