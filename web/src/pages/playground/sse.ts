/** The data of an event's line; null: the line has none. */
export function dataOf(line: string): string | null {
  return line.startsWith("data:") ? line.slice(5).trimStart() : null;
}

export type Chunk = {
  text: string;
  usage: { prompt_tokens: number; completion_tokens: number } | null;
  finish: string | null;
};

type Wire = {
  choices?: {
    delta?: { content?: string | null; reasoning_content?: string | null };
    finish_reason?: string | null;
  }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  error?: { message: string };
};

/** What one event of a chat completion says; null: the end. Throws what the gateway says is wrong. */
export function chunkOf(data: string): Chunk | null {
  if (data === "[DONE]") return null;
  const wire = JSON.parse(data) as Wire;
  if (wire.error !== undefined) throw new Error(wire.error.message);
  const choice = wire.choices?.[0];
  return {
    text: (choice?.delta?.reasoning_content ?? "") + (choice?.delta?.content ?? ""),
    usage: wire.usage ?? null,
    finish: choice?.finish_reason ?? null,
  };
}
