import { changeHeaders } from "./client";
import { ApiError } from "./errors";

/** Asks for an answer that is a stream. Throws ApiError; fetch's own error where it is called off. */
export async function begin(path: string, body: unknown, signal: AbortSignal): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...changeHeaders() },
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    throw signal.aborted ? error : ApiError.unreachable(error);
  }
  if (!response.ok) throw await ApiError.from(response);
  return response;
}
