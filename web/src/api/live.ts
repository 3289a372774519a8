import { type QueryClient, useQueryClient } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore } from "react";

import type { Schemas } from "./client";

export type Topic = "overview" | "models" | "flow" | "events";
export type LiveState = "live" | "connecting" | "paused";

/** What the stream tells, by the name of its events. */
type Told = {
  overview: Schemas["OverviewView"];
  models: Schemas["ModelsEvent"];
  flow: Schemas["FlowView"];
  event: Schemas["EventView"];
};

type Wish = { topics: readonly Topic[]; model: string | null };

const RETRY_MS = 1500;
const EVENTS_KEPT = 2000;

/**
 * The one stream of this tab: what the pages on screen ask for, put into the query cache, where
 * `["overview"]`, `["models"]`, `["flow", name]` and `["events"]` are kept. A hidden tab has none:
 * browsers allow six connections to a host, and who does not look needs no news.
 */
class LiveStream {
  private readonly wishes = new Set<Wish>();
  private readonly listeners = new Set<() => void>();
  private source: EventSource | null = null;
  private url = "";
  private retry: number | undefined;
  private client: QueryClient | null = null;
  state: LiveState = "paused";

  constructor() {
    document.addEventListener("visibilitychange", () => {
      this.follow();
    });
  }

  ask(client: QueryClient, wish: Wish): () => void {
    this.client = client;
    this.wishes.add(wish);
    this.soon();
    return () => {
      this.wishes.delete(wish);
      this.soon();
    };
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  private wanted(): string {
    if (document.hidden || this.wishes.size === 0) return "";
    const topics = new Set([...this.wishes].flatMap((wish) => wish.topics));
    const model = [...this.wishes].map((wish) => wish.model).find((name) => name !== null) ?? null;
    const query = new URLSearchParams({ topics: [...topics].sort().join(",") });
    if (model !== null) query.set("model", model);
    return `/admin/v1/live?${query.toString()}`;
  }

  /** After the effects of one render: a page that gives way to another changes the url once. */
  private soon(): void {
    queueMicrotask(() => {
      this.follow();
    });
  }

  private follow(): void {
    const url = this.wanted();
    if (url === this.url) return;
    this.url = url;
    this.close();
    if (url === "") this.tell("paused");
    else this.open();
  }

  private open(): void {
    this.tell("connecting");
    const source = new EventSource(this.url);
    this.source = source;
    source.onopen = () => {
      this.tell("live");
    };
    source.onerror = () => {
      // The browser tries again by itself, except where the answer was a refusal.
      this.tell("connecting");
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        this.close();
        this.retry = window.setTimeout(() => {
          this.open();
        }, RETRY_MS);
      }
    };
    const on = <K extends keyof Told>(
      name: K,
      put: (client: QueryClient, value: Told[K]) => void,
    ) => {
      source.addEventListener(name, (message: MessageEvent<string>) => {
        if (this.client !== null) put(this.client, JSON.parse(message.data) as Told[K]);
      });
    };
    on("overview", (client, value) => {
      client.setQueryData(["overview"], value);
    });
    on("flow", (client, value) => {
      client.setQueryData(["flow", value.name], value);
    });
    on("models", (client, value) => {
      client.setQueryData<Schemas["ModelSummary"][]>(["models"], (known) => merged(known, value));
    });
    on("event", (client, value) => {
      client.setQueryData<Schemas["EventView"][]>(["events"], (known = []) =>
        (known.at(-1)?.id ?? -1) >= value.id ? known : [...known, value].slice(-EVENTS_KEPT),
      );
    });
  }

  private close(): void {
    window.clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }

  private tell(state: LiveState): void {
    if (this.state === state) return;
    this.state = state;
    this.listeners.forEach((listener) => {
      listener();
    });
  }
}

function merged(
  known: Schemas["ModelSummary"][] | undefined,
  change: Schemas["ModelsEvent"],
): Schemas["ModelSummary"][] {
  if (change.whole || known === undefined) return [...change.items];
  const byName = new Map(known.map((model) => [model.name, model]));
  change.removed.forEach((name) => byName.delete(name));
  change.items.forEach((model) => byName.set(model.name, model));
  return [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
}

const stream = new LiveStream();

/** While the caller is on screen, these topics are kept up to date in the query cache. */
export function useLive(topics: readonly Topic[], model: string | null = null): void {
  const client = useQueryClient();
  const key = topics.join(",");
  useEffect(
    () => stream.ask(client, { topics: key.split(",") as Topic[], model }),
    [client, key, model],
  );
}

export function useLiveState(): LiveState {
  return useSyncExternalStore(stream.subscribe, () => stream.state);
}
