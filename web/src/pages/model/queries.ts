import {
  keepPreviousData,
  useQuery,
  useQueryClient,
  type UseQueryResult,
} from "@tanstack/react-query";
import { useEffect, useMemo } from "react";

import { api, data, type Schemas } from "../../api/client";
import { useLive } from "../../api/live";

// What only a model's page reads. It is read again as an event of the model comes in.

const EVENTS_READ = 500;
const EVENTS_SHOWN_MAX = 2000;

export type Event = Schemas["EventView"];

function path(name: string): { params: { path: { name: string } } } {
  return { params: { path: { name } } };
}

/** The newest rollout, under way or ended. Only of a model that has had one. */
export function useRollout(name: string): UseQueryResult<Schemas["RolloutView"]> {
  return useQuery({
    queryKey: ["model", name, "rollout"],
    queryFn: () => data(api.GET("/admin/v1/models/{name}/rollout", path(name))),
    refetchInterval: 3000,
  });
}

/** Newest first. */
export function useRevisions(name: string): UseQueryResult<Schemas["RevisionView"][]> {
  return useQuery({
    queryKey: ["model", name, "revisions"],
    queryFn: async () => {
      const { items } = await data(api.GET("/admin/v1/models/{name}/revisions", path(name)));
      return [...items].reverse();
    },
  });
}

export function useDiff(
  name: string,
  from: number,
  to: number,
): UseQueryResult<Schemas["DiffView"]> {
  return useQuery({
    queryKey: ["model", name, "diff", from, to],
    queryFn: () =>
      data(
        api.GET("/admin/v1/models/{name}/diff", {
          params: { path: { name }, query: { from, to } },
        }),
      ),
    staleTime: Infinity, // revisions do not change
  });
}

export function useSeries(
  name: string,
  variant: string | null,
  sinceS: number,
  stepS: number,
): UseQueryResult<Schemas["SeriesView"]> {
  return useQuery({
    queryKey: ["series", name, variant, sinceS, stepS],
    queryFn: () =>
      data(
        api.GET("/admin/v1/models/{name}/series", {
          params: { path: { name }, query: { since_s: sinceS, step_s: stepS, variant } },
        }),
      ),
    refetchInterval: 15_000,
    placeholderData: keepPreviousData,
  });
}

/** A model's newest events, oldest first, and each as it happens. */
export function useModelEvents(name: string): UseQueryResult<Event[]> {
  useLive(["events"]);
  const read = useQuery({
    queryKey: ["events", name],
    queryFn: async (): Promise<Event[]> => {
      const query = { model: name, limit: EVENTS_READ };
      // Its answer has two forms, of which the document names none.
      const answer = await data(api.GET("/admin/v1/events", { params: { query } }));
      return [...(answer as { items: Event[] }).items];
    },
    staleTime: Infinity,
  });
  const live = useLiveEvents();
  const merged = useMemo(() => {
    if (read.data === undefined) return undefined;
    const last = read.data.at(-1)?.id ?? 0;
    const more = live.filter((event) => event.model === name && event.id > last);
    return [...read.data, ...more].slice(-EVENTS_SHOWN_MAX);
  }, [read.data, live, name]);
  return { ...read, data: merged } as UseQueryResult<Event[]>;
}

const NONE: readonly Event[] = [];

/** What the stream has brought since the tab was opened. */
function useLiveEvents(): readonly Event[] {
  const kept = useQuery<readonly Event[]>({
    queryKey: ["events"],
    queryFn: () => NONE,
    enabled: false,
    staleTime: Infinity,
  });
  return kept.data ?? NONE;
}

/** Reads everything of the model again as soon as something happens to it. */
export function useFreshAtEvents(name: string): void {
  const client = useQueryClient();
  useLive(["events"]);
  const live = useLiveEvents();
  const newest = live.findLast((event) => event.model === name)?.id;
  useEffect(() => {
    if (newest !== undefined) void client.invalidateQueries({ queryKey: ["model", name] });
  }, [client, name, newest]);
}
