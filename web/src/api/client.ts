import createClient, { type Middleware } from "openapi-fetch";

import { ApiError } from "./errors";
import type { components, paths } from "./schema";

export type Schemas = components["schemas"];

let csrf: string | null = null;
let onSignedOut: () => void = () => undefined;

/** The token that every change must carry; the session's answer tells it. */
export function setCsrf(token: string | null): void {
  csrf = token;
}

/** What happens when the gateway says that nobody is signed in (any more). */
export function whenSignedOut(callback: () => void): void {
  onSignedOut = callback;
}

/** The headers of a change; for `fetch` where an answer is a stream. */
export function changeHeaders(): Record<string, string> {
  return csrf === null ? {} : { "X-CSRF-Token": csrf };
}

const guard: Middleware = {
  onRequest({ request }) {
    if (csrf !== null && request.method !== "GET") request.headers.set("X-CSRF-Token", csrf);
    return request;
  },
  async onResponse({ request, response }) {
    if (response.ok) return;
    if (response.status === 401 && !request.url.endsWith("/admin/v1/session")) onSignedOut();
    throw await ApiError.from(response);
  },
  onError({ error }) {
    return ApiError.unreachable(error);
  },
};

/** The admin API, typed by its OpenAPI document. Every call throws ApiError where it fails. */
export const api = createClient<paths>({ baseUrl: window.location.origin });
api.use(guard);

/** What an answer holds: `guard` has thrown where there is none. */
export async function data<T>(answer: Promise<{ data?: T }>): Promise<T> {
  const { data: value } = await answer;
  if (value === undefined) throw new ApiError(0, "empty", "The gateway's answer was empty.", "");
  return value;
}
