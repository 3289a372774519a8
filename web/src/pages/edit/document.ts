import {
  Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseAllDocuments,
  type ScalarTag,
  type Tags,
  visit,
  type YAMLMap,
} from "yaml";

// A spec as the YAML text that a person writes: read, changed in one place, and found again by the
// paths that the API's errors name. Pure.

export type Path = readonly (string | number)[];

/** A text that holds the spec of one model, *spec* as plain data; it lies at *root* of *doc*. */
export type Read = {
  doc: Document.Parsed;
  lines: LineCounter;
  root: Path;
  spec: Readonly<Record<string, unknown>>;
};

/** Why a text holds no spec, and in which line (from 1). */
export type Unreadable = { line: number; message: string };

// The CLI reads yes, no, on and off as true and false, as YAML 1.1 has it, so the same file must
// not mean something else here.
const TRUE = /^(?:yes|Yes|YES|on|On|ON)$/;
const FALSE = /^(?:no|No|NO|off|Off|OFF)$/;
const word = (test: RegExp, value: boolean): ScalarTag => ({
  tag: "tag:yaml.org,2002:bool",
  default: true,
  test,
  identify: () => false,
  resolve: () => value,
});
const customTags = (tags: Tags): Tags => [word(TRUE, true), word(FALSE, false), ...tags];

export function read(text: string): Read | Unreadable {
  const lines = new LineCounter();
  const parsed = parseAllDocuments(text, { lineCounter: lines, merge: true, customTags });
  const docs = Array.isArray(parsed) ? parsed : [];
  for (const doc of docs) {
    const error = doc.errors[0];
    if (error !== undefined) {
      // Its first line says what; the others draw the place, which is marked here anyway.
      const message = (error.message.split("\n")[0] ?? "").replace(/ at line \d+.*$/, "");
      return { line: lines.linePos(error.pos[0]).line, message };
    }
  }
  const [doc, more] = docs.filter((each) => isNode(each.contents) && !isEmpty(each.contents));
  if (doc === undefined)
    return { line: 1, message: "It is empty: write a spec, or begin with one." };
  if (more !== undefined) {
    const line = lineAt(lines, more.contents);
    return { line, message: "A second document begins here: one model is edited at a time." };
  }
  keepKeys(doc);
  let whole: unknown;
  try {
    whole = doc.toJS({ maxAliasCount: 1000 });
  } catch (error) {
    return { line: 1, message: error instanceof Error ? error.message : String(error) };
  }
  const root = isMap(doc.contents) && doc.contents.has("models") ? ["models", 0] : [];
  if (root.length > 0 && (whole as { models: unknown[] | null }).models?.length !== 1) {
    return { line: 1, message: "`models` must list one model: one is edited at a time." };
  }
  const spec = root.length > 0 ? (whole as { models: unknown[] }).models[0] : whole;
  if (typeof spec !== "object" || spec === null || Array.isArray(spec)) {
    return { line: 1, message: "A spec is a mapping: name, source, variants, …" };
  }
  return { doc, lines, root, spec: spec as Record<string, unknown> };
}

export function isRead(found: Read | Unreadable): found is Read {
  return "doc" in found;
}

function isEmpty(node: Node): boolean {
  return isScalar(node) && node.value === null;
}

/** A key like `on` is the text that it is. */
function keepKeys(doc: Document.Parsed): void {
  visit(doc, {
    Pair(_, pair) {
      if (isScalar(pair.key) && typeof pair.key.value === "boolean" && pair.key.source) {
        const written = pair.key.source;
        if (written.toLowerCase() !== "true" && written.toLowerCase() !== "false") {
          pair.key.value = written;
        }
      }
    },
  });
}

/** What is at *path* of a spec; undefined where there is nothing. */
export function valueAt(spec: unknown, path: Path): unknown {
  let value = spec;
  for (const step of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value ?? undefined;
}

/**
 * *text* with *value* at *path* of its spec; undefined takes away what is there, and the mappings
 * that become empty by it. Comments, order and all else stay.
 */
export function edited(text: string, path: Path, value: unknown): string {
  const found = read(text);
  if (!isRead(found)) return text;
  const { doc, root } = found;
  const full = [...root, ...path];
  if (value === undefined) removed(doc, full, root.length);
  else put(doc, full, value);
  return written(doc, text);
}

function put(doc: Document.Parsed, path: Path, value: unknown): void {
  for (let length = 1; length < path.length; length += 1) {
    const above = path.slice(0, length);
    const node: unknown = doc.getIn(above, true);
    // What others share is not changed for all of them.
    if (isAlias(node)) doc.setIn(above, node.resolve(doc)?.clone());
    else if (!isMap(node) && !isSeq(node)) {
      doc.setIn(above, doc.createNode(typeof path[length] === "number" ? [] : {}));
    }
  }
  const isPlain = typeof value !== "object" || value === null;
  doc.setIn(path, isPlain ? value : isNode(value) ? value : flowing(doc.createNode(value)));
}

function removed(doc: Document.Parsed, path: Path, rootLength: number): void {
  doc.deleteIn(path);
  for (let length = path.length - 1; length > rootLength; length -= 1) {
    const above = path.slice(0, length);
    const node: unknown = doc.getIn(above, true);
    if (!isMap(node) || node.items.length > 0) return;
    doc.deleteIn(above);
  }
}

/** Lists of plain values on one line, as people write them. */
function flowing(node: Node): Node {
  visit(node, {
    Seq(_, seq) {
      if (seq.items.every((item) => isScalar(item))) seq.flow = true;
    },
  });
  return node;
}

function written(doc: Document, like: string): string {
  const indentSeq = !/^( *)[\w-]+:[^\S\n]*\n\1- /m.test(like);
  return doc.toString({ lineWidth: 0, flowCollectionPadding: false, indentSeq });
}

/** A spec that nobody has written yet, as YAML. */
export function asYaml(spec: unknown): string {
  const doc = new Document(spec, { customTags });
  if (isNode(doc.contents)) flowing(doc.contents);
  return written(doc, "");
}

/** `["variants", 0, "engine"]` as the API's errors have it: `variants[0].engine`. */
export function fieldOf(path: Path): string {
  return path
    .map((step) => (typeof step === "number" ? `[${step}]` : `.${step}`))
    .join("")
    .replace(/^\./, "");
}

/**
 * The line (from 1) of the field that an error names; of what is around it where it is missing.
 * Keys may have dots themselves (labels, engine flags): the longest one that fits is meant.
 */
export function lineOf({ doc, lines, root }: Read, field: string): number {
  let node: unknown = root.length === 0 ? doc.contents : doc.getIn(root, true);
  let rest = field;
  let line = lineAt(lines, node);
  while (rest !== "") {
    if (isAlias(node)) node = node.resolve(doc);
    const index = /^\[(\d+)\]\.?/.exec(rest);
    if (isSeq(node) && index !== null) {
      node = node.items[Number(index[1])];
      if (node === undefined) return line;
      line = lineAt(lines, node);
      rest = rest.slice(index[0].length);
    } else if (isMap(node)) {
      const key = longestKey(node, rest);
      const pair = key === null ? undefined : pairOf(node, key);
      if (key === null || pair === undefined) return line;
      line = lineAt(lines, pair.key);
      node = pair.value;
      rest = rest.slice(key.length).replace(/^\./, "");
    } else {
      return line;
    }
  }
  return line;
}

function longestKey(map: YAMLMap, rest: string): string | null {
  const keys = map.items
    .map(({ key }) => (isScalar(key) ? String(key.value) : ""))
    .filter((key) => key !== "" && (rest === key || /^[.[]/.test(rest.slice(key.length))))
    .filter((key) => rest.startsWith(key));
  return keys.sort((a, b) => b.length - a.length)[0] ?? null;
}

function pairOf(map: YAMLMap, key: string) {
  return map.items.find((pair) => isScalar(pair.key) && String(pair.key.value) === key);
}

function lineAt(lines: LineCounter, node: unknown): number {
  const at = isNode(node)
    ? node.range?.[0]
    : isPair(node) && isNode(node.key)
      ? node.key.range?.[0]
      : 0;
  return Math.max(1, lines.linePos(at ?? 0).line);
}

/** A flag's value as somebody types it: a number, true or false where it looks like one. */
export function typed(text: string): string | number | boolean {
  const found = read(`value: ${text}`);
  const value: unknown = isRead(found) ? found.spec.value : text;
  const isPlain = typeof value === "number" || typeof value === "boolean";
  return isPlain ? value : text;
}
