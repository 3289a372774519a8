import type { Schemas } from "../../api/client";
import type { Body } from "./body";

/**
 * Where clients send the same: the inference API, not this console. It is on the host that the page
 * is from, unless it has an address of its own.
 */
export function inferenceUrl(
  at: Pick<Schemas["SessionView"], "inference_host" | "inference_port">,
  location: Pick<Location, "protocol" | "hostname">,
): string {
  const plain = at.inference_host || location.hostname;
  const host = plain.includes(":") && !plain.startsWith("[") ? `[${plain}]` : plain;
  return `${location.protocol}//${host}:${at.inference_port}/v1`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export function asCurl(body: Body, url: string): string {
  return [
    `curl ${url}/chat/completions \\`,
    `  -H "Authorization: Bearer $MODELYARD_KEY" \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d ${quoted(JSON.stringify(body))}`,
  ].join("\n");
}

export function asPython(body: Body, url: string): string {
  const fields = Object.entries(body)
    .filter(([name]) => !name.startsWith("stream"))
    .map(([name, value]) => `    ${name}=${literal(value)},`);
  return [
    "import os",
    "",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url="${url}", api_key=os.environ["MODELYARD_KEY"])`,
    "stream = client.chat.completions.create(",
    ...fields,
    "    stream=True,",
    ")",
    "for chunk in stream:",
    '    print(chunk.choices[0].delta.content or "", end="")',
  ].join("\n");
}

/** JSON as Python writes it: strings, numbers, lists and dicts look the same. */
function literal(value: unknown): string {
  return JSON.stringify(value).replaceAll('":', '": ').replaceAll(',"', ', "');
}
