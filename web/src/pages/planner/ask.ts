import { changeHeaders } from "../../api/client";
import { ApiError } from "../../api/errors";
import type { Body } from "./asked";
import { LineReader, type Plan } from "./plan";

/** Asks the planner, tells what it is doing; null: it was called off. Throws ApiError. */
export async function recommend(
  body: Body,
  signal: AbortSignal,
  onNote: (message: string) => void,
): Promise<Plan | null> {
  try {
    const response = await fetch("/admin/v1/recommendations", {
      method: "POST",
      headers: { "Content-Type": "application/json", ...changeHeaders() },
      body: JSON.stringify(body),
      signal,
    });
    if (!response.ok) throw await ApiError.from(response);
    if (response.body === null) return null;
    const reader = new LineReader();
    const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let piece = await text.read(); !piece.done; piece = await text.read()) {
      for (const line of reader.push(piece.value)) {
        if (line.kind === "planned") return line.plan;
        if (line.kind === "failed") throw new ApiError(422, "failed", line.message, line.field);
        onNote(line.message);
      }
    }
  } catch (error) {
    if (signal.aborted) return null;
    throw error instanceof ApiError ? error : ApiError.unreachable(error);
  }
  throw new ApiError(0, "cut", "The gateway ended before there was a plan. Ask again.", "");
}
