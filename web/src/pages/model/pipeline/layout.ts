import type { Schemas } from "../../../api/client";
import { percent, rate, short } from "../../../parts/quantities";

// Where everything of a model's picture lies, in pixels. Pure: the same flow is the same picture.

type Flow = Schemas["FlowView"];
type Variant = Schemas["FlowVariantView"];
type Worker = Schemas["FlowWorkerView"];
type Role = Schemas["Role"];

export type Tone = "good" | "busy" | "rest" | "warn" | "bad" | "quiet";

/** What the flow does not say and the picture shows. */
export type Beside = {
  width: number;
  /** The rollout under way. */
  rollout: { from: number; to: number; percent: number } | null;
  /** By variant, the share of the requests that it gets copies of. */
  shadows: ReadonlyMap<string, number>;
  /** By `slotKey`, why what is missing of a role has no place. */
  noPlace: ReadonlyMap<string, string>;
};

export type Rect = { x: number; y: number; w: number; h: number };

export type Tile = Rect & {
  /** Of one worker; null: of several, or of none. */
  worker: string | null;
  title: string;
  word: string;
  tone: Tone;
  dim: boolean;
  lines: readonly string[];
  /** What its engine uses of its KV cache, 0 to 1. */
  kv: number | null;
  /** All of it in words. */
  label: string;
};

export type Group = Rect & { role: Role; title: string; tone: Tone; tiles: readonly Tile[] };

/** One variant's workers of one revision, or of all. */
export type Lane = Rect & { title: string | null; groups: readonly Group[] };

export type Frame = Rect & {
  variant: string;
  state: string;
  title: string;
  facts: string;
  lanes: readonly Lane[];
};

export type Edge = {
  key: string;
  path: string;
  /** Its thickness, 0 to 1; null: nothing flows here. */
  load: number | null;
  failing: boolean;
  labels: readonly { x: number; y: number; text: string; tone: "plain" | "bad"; at: Anchor }[];
};
type Anchor = "middle" | "start" | "end";

export type Picture = {
  width: number;
  height: number;
  gateway: Rect & { lines: readonly string[] };
  frames: readonly Frame[];
  edges: readonly Edge[];
};

/** So many workers of a role are drawn each for itself; of more, the rest is one tile. */
export const DRAWN_MAX = 12;
/** A bound for failing ones too, which are drawn before the others. */
const FAILING_DRAWN_MAX = 24;

const EDGE = 1; // what a border needs
const PAD = 10;
const GAP = 8;
const TILE_H = 66;
const TITLE_H = 40;
const LANE_TITLE_H = 20;
const GROUP_TITLE_H = 22;
const BYPASS_H = 24;
const CHAR_PX = 6.3;
const ERRORS_SHOWN = 0.01; // the share of failed requests from which an edge is drawn as failing
const LITTLE = 0.005; // requests/s that are not worth an edge

export function slotKey(variant: string, role: Role): string {
  return `${variant}/${role}`;
}

export function layout(flow: Flow, beside: Beside): Picture {
  const narrow = beside.width < 820;
  const gatewayW = narrow ? 88 : 124;
  const gapW = narrow ? 92 : 124;
  const x = EDGE + gatewayW + gapW;
  const w = Math.max(beside.width - x - EDGE, 260);
  const frames: Frame[] = [];
  const edges: Edge[] = [];
  let y = EDGE;
  const busiest = Math.max(...flow.variants.map((variant) => variant.rates.requests_per_s), LITTLE);
  for (const variant of flow.variants) {
    const lanes: Lane[] = [];
    const parts = lanesOf(variant, beside.rollout);
    let top = y + TITLE_H;
    for (const [index, part] of parts.entries()) {
      const made = lane(variant, part, `${variant.name}/${index}`, beside, {
        x: x + PAD,
        y: top,
        w: w - 2 * PAD,
      });
      lanes.push(made.lane);
      edges.push(
        ...inflow(variant, part, made.lane, {
          key: `${variant.name}/${index}`,
          gatewayW,
          x,
          busiest,
          beside,
        }),
      );
      edges.push(...made.edges);
      top = made.lane.y + made.lane.h + GAP;
    }
    const frame: Frame = {
      x,
      y,
      w,
      h: top - GAP + PAD - y,
      variant: variant.name,
      state: variant.state,
      title: variant.name,
      facts: clip(factsOf(variant), (w - 2 * PAD) / CHAR_PX),
      lanes,
    };
    frames.push(frame);
    y = frame.y + frame.h + 2 * GAP;
  }
  const height = Math.max(y - 2 * GAP, 100) + EDGE;
  return {
    width: x + w + EDGE,
    height,
    gateway: { x: EDGE, y: EDGE, w: gatewayW, h: height - 2 * EDGE, lines: gatewayLines(flow) },
    frames,
    edges,
  };
}

// What is drawn -------------------------------------------------------------------------------

type Part = {
  revision: number | null;
  /** Of the traffic; null: what the variant takes. */
  percent: number | null;
  roles: readonly Role[];
  workers: readonly Worker[];
};

const ALONE: readonly Role[] = ["unified"];
const APART: readonly Role[] = ["prefill", "decode"];

/**
 * While it rolls, the workers of either revision apart, else all of them together; and those that
 * answer alone apart from those that work in pairs, where a variant has both as it changes.
 */
export function lanesOf(variant: Variant, rollout: Beside["rollout"]): Part[] {
  const wanted = variant.roles.map((count) => count.role);
  if (rollout === null) return byTopology(variant.workers, wanted, null, null);
  const isNew = (worker: Worker) => worker.revision === rollout.to;
  const old = variant.workers.filter((worker) => !isNew(worker));
  const fresh = variant.workers.filter(isNew);
  // Of a variant that the new revision leaves as it is, both revisions have the same workers.
  const kept = (count: Schemas["RoleCount"]) =>
    count.live > 0 && count.live === old.filter((worker) => worker.role === count.role).length;
  if (fresh.length === 0 && variant.roles.length > 0 && variant.roles.every(kept)) {
    return byTopology(variant.workers, wanted, null, null);
  }
  return [
    ...byTopology(old, old.length === 0 ? wanted : [], rollout.from, 100 - rollout.percent),
    ...byTopology(fresh, wanted, rollout.to, rollout.percent),
  ];
}

function byTopology(
  workers: readonly Worker[],
  wanted: readonly Role[],
  revision: number | null,
  percent: number | null,
): Part[] {
  return [ALONE, APART].flatMap((roles) => {
    const mine = workers.filter((worker) => roles.includes(worker.role));
    const asked = wanted.some((role) => roles.includes(role));
    return mine.length > 0 || asked ? [{ revision, percent, roles, workers: mine }] : [];
  });
}

/** What a role of a lane still lacks, by the current revision's wish. */
function missing(variant: Variant, role: Role, part: Part, beside: Beside): number {
  const count = variant.roles.find((item) => item.role === role);
  if (count === undefined) return 0;
  if (beside.rollout !== null && part.revision !== beside.rollout.to) return 0;
  return Math.max(0, count.desired - count.live);
}

/** Of the workers that the new revision counts as its own, those that the old one started. */
function shared(variant: Variant, role: Role, part: Part, beside: Beside): number {
  if (beside.rollout === null || part.revision !== beside.rollout.to) return 0;
  const count = variant.roles.find((item) => item.role === role);
  return Math.max(0, (count?.live ?? 0) - part.workers.filter((w) => w.role === role).length);
}

function lane(
  variant: Variant,
  part: Part,
  key: string,
  beside: Beside,
  at: { x: number; y: number; w: number },
): { lane: Lane; edges: Edge[] } {
  const titleH = part.revision === null ? 0 : LANE_TITLE_H;
  const inset = part.revision === null ? 0 : PAD;
  const { roles } = part;
  const apart = roles.length > 1;
  const direct = apart ? directOf(variant, part) : null;
  const bypassH = direct === null ? 0 : BYPASS_H;
  const kvW = apart ? Math.min(150, Math.max(84, (at.w - 2 * inset) * 0.2)) : 0;
  const groupW = (at.w - 2 * inset - kvW) / roles.length;
  const y = at.y + titleH + bypassH;
  const drawn = roles.map((role, index) =>
    group(variant, role, part, beside, {
      x: at.x + inset + index * (groupW + kvW),
      y,
      w: groupW,
    }),
  );
  const h = Math.max(...drawn.map((item) => item.h));
  const groups = drawn.map((item) => ({ ...item, h }));
  const [first, second] = groups;
  const edges: Edge[] = [];
  if (first !== undefined && second !== undefined) {
    edges.push(kvEdge(variant, `${key}/kv`, first, second, part));
    if (direct !== null) edges.push(directEdge(`${key}/direct`, direct, first, second));
  }
  const laneTitle =
    part.revision === null
      ? null
      : `Revision ${part.revision}: ${percent((part.percent ?? 0) / 100)} of the traffic`;
  return {
    lane: { ...at, h: titleH + bypassH + h + inset, title: laneTitle, groups },
    edges,
  };
}

function group(
  variant: Variant,
  role: Role,
  part: Part,
  beside: Beside,
  at: { x: number; y: number; w: number },
): Group {
  const workers = part.workers.filter((worker) => worker.role === role);
  const lacking = missing(variant, role, part, beside);
  const of = shared(variant, role, part, beside);
  const why = beside.noPlace.get(slotKey(variant.name, role)) ?? "";
  const { drawn, rest } = chosen(workers);
  const contents: Omit<Tile, keyof Rect>[] = drawn.map(workerTile);
  if (rest.length > 0) contents.push(restTile(rest));
  if (lacking > 0) {
    contents.push(
      why === "" && part.revision !== null ? laterTile(lacking) : missingTile(lacking, why),
    );
  }
  if (of > 0 && beside.rollout !== null) contents.push(sharedTile(of, beside.rollout.from));
  if (contents.length === 0) contents.push(nothingTile());
  const inner = at.w - 2 * GAP;
  const least = contents.length > 3 ? 140 : 200;
  const columns = Math.min(contents.length, Math.max(1, Math.floor((inner + GAP) / (least + GAP))));
  const w = Math.min((inner - GAP * (columns - 1)) / columns, 300);
  const tiles = contents.map((content, index) =>
    fitted({
      ...content,
      x: at.x + GAP + (index % columns) * (w + GAP),
      y: at.y + GROUP_TITLE_H + Math.floor(index / columns) * (TILE_H + GAP),
      w,
      h: TILE_H,
    }),
  );
  const rows = Math.ceil(contents.length / columns);
  const ready = workers.filter((worker) => worker.phase === "ready").length;
  const wanted = Math.max(workers.length + lacking, 0);
  const name = role === "unified" ? "workers" : role;
  return {
    ...at,
    h: GROUP_TITLE_H + rows * (TILE_H + GAP),
    role,
    title: clip(`${name}: ${ready}/${wanted} ready`, (at.w - 2 * GAP) / CHAR_PX),
    tone: groupTone(workers, lacking, why !== ""),
    tiles,
  };
}

function groupTone(workers: readonly Worker[], lacking: number, noPlace: boolean): Tone {
  if (workers.some(isFailing)) return "bad";
  if (lacking > 0 && noPlace) return workers.length === 0 ? "bad" : "warn";
  if (workers.length === 0) return lacking > 0 ? "busy" : "quiet";
  if (workers.every((worker) => toneOf(worker) === "rest")) return "rest";
  return workers.every((worker) => worker.phase === "ready") ? "good" : "busy";
}

/** Those that are drawn each for itself, in their order: all that fail, then the first others. */
export function chosen(workers: readonly Worker[]): { drawn: Worker[]; rest: Worker[] } {
  if (workers.length <= DRAWN_MAX) return { drawn: [...workers], rest: [] };
  const failing = workers.filter(isFailing).slice(0, FAILING_DRAWN_MAX);
  const room = Math.max(DRAWN_MAX - 1 - failing.length, 0);
  const ids = new Set(failing.map((worker) => worker.id));
  const others = workers.filter((worker) => !ids.has(worker.id));
  others.slice(0, room).forEach((worker) => ids.add(worker.id));
  return {
    drawn: workers.filter((worker) => ids.has(worker.id)),
    rest: others.slice(room),
  };
}

export function isFailing(worker: Worker): boolean {
  return toneOf(worker) === "bad" || toneOf(worker) === "warn";
}

export function toneOf(worker: Worker): Tone {
  if (worker.phase === "failed" || worker.phase === "lost") return "bad";
  if (worker.departing || ["draining", "stopping", "stopped"].includes(worker.phase))
    return "quiet";
  if (worker.phase === "asleep" || worker.phase === "falling-asleep") return "rest";
  if (worker.phase === "ready") return worker.reason === "" ? "good" : "warn";
  return "busy";
}

/** What a worker's phase is called, for people. */
export function phaseWord(worker: Pick<Worker, "phase" | "departing">): string {
  const word = worker.phase.replaceAll("-", " ");
  return worker.departing && worker.phase === "ready" ? "leaving" : word;
}

export function workerName(worker: Pick<Worker, "role" | "ordinal">): string {
  return `${worker.role === "unified" ? "worker" : worker.role} ${worker.ordinal}`;
}

// Tiles -----------------------------------------------------------------------------------------

type Content = Omit<Tile, keyof Rect>;

function workerTile(worker: Worker): Content {
  const tone = toneOf(worker);
  const ready = worker.phase === "ready";
  const lines = ready
    ? [busyness(worker), throughput(worker)]
    : [worker.reason === "" ? worker.node : worker.reason, worker.reason === "" ? "" : worker.node];
  if (ready && worker.reason !== "") lines.splice(0, 2, worker.reason, busyness(worker));
  return {
    worker: worker.id,
    title: workerName(worker),
    word: phaseWord(worker),
    tone,
    dim: tone === "quiet" || tone === "rest",
    lines,
    kv: worker.kv_usage,
    label: wordsOf(worker),
  };
}

/** A worker in one sentence, for those who do not see it. */
export function wordsOf(worker: Worker): string {
  const facts = [`${workerName(worker)} on ${worker.node || "no node yet"}: ${phaseWord(worker)}`];
  if (worker.running !== null) facts.push(`${worker.running} requests running`);
  if (worker.waiting !== null) facts.push(`${worker.waiting} waiting`);
  if (worker.kv_usage !== null) facts.push(`KV cache ${percent(worker.kv_usage)} full`);
  if (worker.reason !== "") facts.push(worker.reason);
  return facts.join(", ");
}

function busyness(worker: Worker): string {
  if (worker.running === null && worker.waiting === null) return worker.node;
  return `${worker.running ?? "–"} running, ${worker.waiting ?? "–"} waiting`;
}

function throughput(worker: Worker): string {
  const read = `${rate(worker.prompt_tokens_per_s)} in`;
  const written = `${rate(worker.generation_tokens_per_s)} out`;
  if (worker.prompt_tokens_per_s === null && worker.generation_tokens_per_s === null) return "";
  if (worker.role === "prefill") return `${rate(worker.prompt_tokens_per_s)} tok/s`;
  if (worker.role === "decode") return `${rate(worker.generation_tokens_per_s)} tok/s`;
  return `${read}, ${written} tok/s`;
}

function restTile(rest: readonly Worker[]): Content {
  const phases = new Map<string, number>();
  for (const worker of rest) {
    const word = phaseWord(worker);
    phases.set(word, (phases.get(word) ?? 0) + 1);
  }
  const words = [...phases].sort((a, b) => b[1] - a[1]);
  const [only] = words;
  const told =
    words.length === 1 && only !== undefined
      ? `all ${only[0]}`
      : words.map(([word, many]) => `${many} ${word}`).join(", ");
  const running = rest.reduce((sum, worker) => sum + (worker.running ?? 0), 0);
  const waiting = rest.reduce((sum, worker) => sum + (worker.waiting ?? 0), 0);
  const load = `${running} running, ${waiting} waiting`;
  return {
    worker: null,
    title: `+ ${rest.length} more`,
    word: "",
    tone: rest.some(isFailing) ? "bad" : rest.every((w) => w.phase === "ready") ? "good" : "busy",
    dim: false,
    lines: [told, load],
    kv: null,
    label: `${rest.length} more workers, ${told}: ${load}`,
  };
}

function missingTile(lacking: number, why: string): Content {
  const line = why === "" ? "the controller has not placed it yet" : why;
  return {
    worker: null,
    title: lacking === 1 ? "1 missing" : `${lacking} missing`,
    word: why === "" ? "to come" : "no place",
    tone: why === "" ? "busy" : "bad",
    dim: false,
    lines: [line],
    kv: null,
    label: `${lacking} wanted and not placed: ${line}`,
  };
}

function laterTile(lacking: number): Content {
  const line = "started as the rollout goes on";
  return {
    worker: null,
    title: lacking === 1 ? "1 more" : `${lacking} more`,
    word: "to come",
    tone: "quiet",
    dim: true,
    lines: [line],
    kv: null,
    label: `${lacking} more, ${line}`,
  };
}

function sharedTile(count: number, from: number): Content {
  const line = `shares ${count} with revision ${from}`;
  return {
    worker: null,
    title: "unchanged",
    word: "",
    tone: "quiet",
    dim: true,
    lines: [line],
    kv: null,
    label: line,
  };
}

function nothingTile(): Content {
  return {
    worker: null,
    title: "none",
    word: "",
    tone: "quiet",
    dim: true,
    lines: ["no worker here"],
    kv: null,
    label: "no worker here",
  };
}

function fitted(tile: Tile): Tile {
  const chars = (tile.w - 2 * PAD) / CHAR_PX;
  return {
    ...tile,
    title: clip(tile.title, tile.word === "" ? chars : chars - tile.word.length - 3),
    lines: tile.lines.map((long, index) => {
      const line =
        long.length <= chars
          ? long
          : long.replace(" running, ", " run, ").replace(" waiting", " wait");
      // The last line has the KV cache's use to its right.
      return clip(line, index === tile.lines.length - 1 && tile.kv !== null ? chars - 8 : chars);
    }),
  };
}

export function clip(text: string, chars: number): string {
  const most = Math.max(Math.floor(chars), 1);
  return text.length <= most ? text : `${text.slice(0, most - 1).trimEnd()}…`;
}

// Edges -----------------------------------------------------------------------------------------

function inflow(
  variant: Variant,
  part: Part,
  lane: Lane,
  at: { key: string; gatewayW: number; x: number; busiest: number; beside: Beside },
): Edge[] {
  const [entry] = lane.groups;
  if (entry === undefined) return [];
  const y = entryY(entry);
  const from = EDGE + at.gatewayW;
  const middle = (from + at.x) / 2;
  const shadow = at.beside.shadows.get(variant.name) ?? 0;
  const own = part.percent === null ? variant.percent : part.percent;
  const flowing = variant.rates.requests_per_s > LITTLE && own > 0;
  const errors = variant.rates.error_rate ?? 0;
  const label = (text: string, dy: number, tone: "plain" | "bad" = "plain") => ({
    x: middle,
    y: y + dy,
    text,
    tone,
    at: "middle" as const,
  });
  const share = shadow > 0 ? `copies of ${percent(shadow / 100)}` : percent(own / 100);
  const labels = [label(share, -8)];
  // Rates are a variant's: where two revisions share it, they stand in its title.
  if (part.revision === null) {
    labels.unshift(label(`${rate(variant.rates.requests_per_s)} req/s`, -24));
    labels.push(label(`${rate(variant.rates.prompt_tokens_per_s)} tok/s in`, 18));
    labels.push(label(`${rate(variant.rates.completion_tokens_per_s)} tok/s out`, 34));
    if (errors >= ERRORS_SHOWN) labels.push(label(`${percent(errors)} errors`, 50, "bad"));
  }
  return [
    {
      key: `${at.key}/in`,
      path: `M ${from} ${y} H ${entry.x - 4}`,
      load: flowing ? (variant.rates.requests_per_s * own) / 100 / at.busiest : null,
      failing: errors >= ERRORS_SHOWN,
      labels,
    },
  ];
}

/** Edges meet a group at its first row: they stay where they are as it grows. */
function entryY(group: Group): number {
  return group.y + GROUP_TITLE_H + TILE_H / 2;
}

function kvEdge(variant: Variant, key: string, from: Group, to: Group, part: Part): Edge {
  const y = entryY(from);
  const x = (from.x + from.w + to.x) / 2;
  const failures = variant.kv_failures_per_s ?? 0;
  const transfers = variant.kv_transfers_per_s;
  const idle = part.workers.length === 0 || part.percent === 0;
  const label = (text: string, dy: number, tone: "plain" | "bad" = "plain") => ({
    x,
    y: y + dy,
    text,
    tone,
    at: "middle" as const,
  });
  // The counts are a variant's: where two revisions share it, whose they are is not known.
  const labels =
    part.revision === null ? [label(`KV ${rate(transfers)}/s`, -8)] : [label("KV", -8)];
  if (variant.transfer !== "")
    labels.push(label(clip(variant.transfer, (to.x - from.x - from.w) / CHAR_PX), 18));
  if (failures > 0) labels.push(label(`${rate(failures)}/s failing`, 34, "bad"));
  return {
    key,
    path: `M ${from.x + from.w} ${y} H ${to.x - 4}`,
    load: idle || (transfers ?? 0) <= LITTLE ? null : 0.5,
    failing: failures > 0,
    labels: idle ? [] : labels,
  };
}

/** The requests that went to decode without a prefill worker; null: next to none, or unknown. */
function directOf(variant: Variant, part: Part): number | null {
  if (part.revision !== null) return null;
  const direct = variant.rates.requests_per_s - variant.paired_per_s;
  return direct > Math.max(LITTLE, variant.rates.requests_per_s * 0.02) ? direct : null;
}

function directEdge(key: string, direct: number, first: Group, second: Group): Edge {
  const top = first.y - BYPASS_H + 6;
  const from = first.x - PAD / 2;
  const to = second.x + second.w / 2;
  return {
    key,
    path: `M ${from} ${entryY(first)} V ${top + 8} Q ${from} ${top} ${from + 8} ${top} H ${to - 8} Q ${to} ${top} ${to} ${top + 8} V ${second.y - 4}`,
    load: 0.3,
    failing: false,
    labels: [
      {
        x: first.x,
        y: top + 14,
        text: clip(`${rate(direct)} req/s without prefill`, first.w / CHAR_PX),
        tone: "plain",
        at: "start",
      },
    ],
  };
}

// Words -----------------------------------------------------------------------------------------

function gatewayLines(flow: Flow): string[] {
  const { rates } = flow;
  return [
    `${rate(rates.requests_per_s)} req/s`,
    `${rates.in_flight ?? "–"} in flight`,
    `${rates.queued ?? "–"} queued`,
    `${rates.error_rate === null ? "–" : percent(rates.error_rate)} errors`,
  ];
}

function factsOf(variant: Variant): string {
  const facts = [variant.topology, variant.engine ?? "", variant.transfer];
  if (variant.weight > 0) facts.push(`weight ${variant.weight}`);
  facts.push(`${rate(variant.rates.requests_per_s)} req/s`);
  const error = variant.rates.error_rate;
  if (error !== null && error > 0) facts.push(`${percent(error)} errors`);
  return facts.filter((fact) => fact !== "").join(" · ");
}

/** Who feeds whom, in sentences: the picture for those who do not see it. */
export function sentences(flow: Flow, beside: Beside): string[] {
  return flow.variants.flatMap((variant) =>
    lanesOf(variant, beside.rollout).flatMap((part) => {
      const shadow = beside.shadows.get(variant.name) ?? 0;
      const name =
        part.revision === null ? variant.name : `${variant.name}, revision ${part.revision}`;
      const takes =
        shadow > 0
          ? `copies of ${percent(shadow / 100)} of the requests`
          : `${percent((part.percent ?? variant.percent) / 100)} of the requests`;
      const said = [
        `The gateway gives ${name} (${variant.state}) ${takes}: ${short(variant.rates.requests_per_s)} a second in all.`,
      ];
      const groups = part.roles.map((role) => {
        const of = part.workers.filter((worker) => worker.role === role);
        const ready = of.filter((worker) => worker.phase === "ready").length;
        const lacking = missing(variant, role, part, beside);
        const word = role === "unified" ? "" : `${role} `;
        const also = lacking > 0 ? ` and ${lacking} without a place` : "";
        return `${of.length} ${word}workers (${ready} ready)${also}`;
      });
      said.push(
        groups.length > 1
          ? `${groups.join(" hand KV caches to ")}: ${rate(variant.kv_transfers_per_s)} a second, ${rate(variant.kv_failures_per_s)} of them failing.`
          : `${groups.join("")} answer.`,
      );
      return said;
    }),
  );
}
