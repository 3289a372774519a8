/** Takes server-sent events apart that come in pieces; gives the data of each whole one. */
export class EventReader {
  private rest = "";

  push(text: string): string[] {
    const lines = (this.rest + text).split(/\r?\n/);
    this.rest = lines.pop() ?? "";
    return lines
      .filter((line) => line.startsWith("data:"))
      .map((line) => line.slice(5).trimStart());
  }
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
