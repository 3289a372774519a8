/** Takes lines apart that come in pieces; gives each whole one. */
export class Lines {
  private rest = "";

  push(text: string): string[] {
    const lines = (this.rest + text).split(/\r?\n/);
    this.rest = lines.pop() ?? "";
    return lines;
  }
}

/** The lines of an answer, as they come. */
export async function* linesOf(response: Response): AsyncGenerator<string> {
  if (response.body === null) return;
  const lines = new Lines();
  const text = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await text.read(); !piece.done; piece = await text.read()) {
    yield* lines.push(piece.value);
  }
}
