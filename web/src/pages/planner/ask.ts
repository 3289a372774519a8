import { ApiError } from "../../api/errors";
import { linesOf } from "../../api/lines";
import { begin } from "../../api/stream";
import type { Body } from "./asked";
import { lineOf, type Plan } from "./plan";

/** Asks the planner, tells what it is doing; null: it was called off. Throws ApiError. */
export async function recommend(
  body: Body,
  signal: AbortSignal,
  onNote: (message: string) => void,
): Promise<Plan | null> {
  try {
    for await (const text of linesOf(await begin("/admin/v1/recommendations", body, signal))) {
      const line = lineOf(text);
      if (line?.kind === "planned") return line.plan;
      if (line?.kind === "failed") throw new ApiError(422, "failed", line.message, line.field);
      if (line !== null) onNote(line.message);
    }
  } catch (error) {
    if (signal.aborted) return null;
    throw error instanceof ApiError ? error : ApiError.unreachable(error);
  }
  throw new ApiError(0, "cut", "The gateway ended before there was a plan. Ask again.", "");
}
