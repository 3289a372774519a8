import { expect, test } from "vitest";

import { ApiError, sentence } from "./errors";

async function told(error: object): Promise<string> {
  return sentence(await ApiError.from(new Response(JSON.stringify({ error }), { status: 422 })));
}

test("a refusal names its field once, and one of the inference API none", async () => {
  const message = "task: is 'sing'";
  expect(await told({ code: "invalid", message, field: "task" })).toBe(message);
  expect(await told({ code: null, message: "no worker is ready" })).toBe("no worker is ready");
});
