export type Message = { role: "system" | "user" | "assistant"; content: string };

export type Parameters = {
  temperature: number | "";
  top_p: number | "";
  max_tokens: number | "";
  seed: number | "";
};

export type Body = {
  model: string;
  messages: readonly Message[];
  stream: true;
  stream_options: { include_usage: true };
} & Partial<Record<keyof Parameters, number>>;

/** A chat completion's body; a parameter that is left empty is the model's own. */
export function bodyOf(model: string, messages: readonly Message[], given: Parameters): Body {
  const parameters = Object.fromEntries(
    Object.entries(given).filter((entry): entry is [string, number] => entry[1] !== ""),
  );
  return { model, messages, ...parameters, stream: true, stream_options: { include_usage: true } };
}
