// What is kept of a log that never ends. Pure.

/** So long is a line at most: an engine that prints a megabyte in one is no reason to stand still. */
export const LINE_CHARS_MAX = 4000;

// Colours and cursor moves of terminals.
// eslint-disable-next-line no-control-regex
const ESCAPES = /\u001b\[[0-9;?]*[A-Za-z]/g;

/** The newest *capacity* lines. Adding one costs the same however many there are. */
export class Ring {
  private readonly lines: string[] = [];
  private start = 0;
  /** How many were ever added: the number of the newest line. */
  total = 0;

  constructor(readonly capacity: number) {}

  get length(): number {
    return this.lines.length;
  }

  /** The number of the oldest line that is still here, from 1. */
  get first(): number {
    return this.total - this.lines.length + 1;
  }

  push(lines: readonly string[]): void {
    for (const line of lines) {
      if (this.lines.length < this.capacity) this.lines.push(line);
      else {
        this.lines[this.start] = line;
        this.start = (this.start + 1) % this.capacity;
      }
    }
    this.total += lines.length;
  }

  /** The line at *index*, from 0, the oldest. */
  at(index: number): string {
    return this.lines[(this.start + index) % this.lines.length] ?? "";
  }

  /** All of them, oldest first. */
  all(): string[] {
    return [...this.lines.slice(this.start), ...this.lines.slice(0, this.start)];
  }

  /** Where lines with *text* are, whatever the case. */
  search(text: string): number[] {
    const wanted = text.toLowerCase();
    const found: number[] = [];
    for (let index = 0; index < this.lines.length; index += 1) {
      if (this.at(index).toLowerCase().includes(wanted)) found.push(index);
    }
    return found;
  }
}

/** Turns what arrives into whole lines: a chunk may end within one, or within a character. */
export class Lines {
  private readonly decoder = new TextDecoder();
  private rest = "";

  take(chunk: Uint8Array): string[] {
    const text = this.rest + this.decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    this.rest = lines.pop() ?? "";
    if (this.rest.length > LINE_CHARS_MAX) {
      lines.push(this.rest);
      this.rest = "";
    }
    return lines.map(clean);
  }

  /** What came after the last line's end. */
  end(): string[] {
    const last = this.rest + this.decoder.decode();
    this.rest = "";
    return last === "" ? [] : [clean(last)];
  }
}

function clean(line: string): string {
  // Of a progress bar, which is drawn over itself, the last state.
  const text = line.endsWith("\r") ? line.slice(0, -1) : line;
  const shown = text.slice(text.lastIndexOf("\r") + 1).replaceAll(ESCAPES, "");
  return shown.length <= LINE_CHARS_MAX ? shown : `${shown.slice(0, LINE_CHARS_MAX)}…`;
}
