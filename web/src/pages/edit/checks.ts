import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import { api, data, type Schemas } from "../../api/client";

type Spec = Readonly<Record<string, unknown>>;
// What the text says is for the gateway to judge: it goes there as it is.
type SpecBody = Schemas["ModelView"]["spec"];

const VALIDATE_AFTER_MS = 250;
const PLAN_AFTER_MS = 600;

/** What the gateway says of *spec*, a moment after its last change. null: there is none to ask of. */
export function useValidation(spec: Spec | null) {
  const json = spec === null ? null : JSON.stringify(spec);
  const [settled] = useDebouncedValue(json, VALIDATE_AFTER_MS);
  const asked = useQuery({
    queryKey: ["validate", settled],
    queryFn: ({ signal }) =>
      data(
        api.POST("/admin/v1/models:check", {
          body: JSON.parse(settled ?? "null") as SpecBody,
          signal,
        }),
      ),
    enabled: settled !== null,
    staleTime: 5000,
    gcTime: 30_000,
  });
  const current = json !== null && settled === json;
  const answer = current && asked.isSuccess ? asked.data : null;
  return {
    /** Of the text as it is now, that is valid; else null. */
    view: answer?.would ?? null,
    refused: answer?.refused ?? null,
    /** It could not be asked. */
    failed: current && asked.isError ? asked.error : null,
    checking: json !== null && (!current || asked.isPending),
  };
}

/**
 * What would come of applying *spec*, thought through a moment after its last change; a newer one
 * takes the place of one that is under way. null: of nothing, now.
 */
export function usePlan(spec: Spec | null, automatic: boolean) {
  const json = spec === null ? null : JSON.stringify(spec);
  const [settled] = useDebouncedValue(json, PLAN_AFTER_MS);
  const asked = useQuery({
    queryKey: ["plan", settled],
    queryFn: ({ signal }) =>
      data(
        api.POST("/admin/v1/plan", {
          body: { models: [JSON.parse(settled ?? "null") as SpecBody] },
          signal,
        }),
      ),
    enabled: automatic && settled !== null && settled === json,
    placeholderData: keepPreviousData,
    staleTime: 5000,
    gcTime: 30_000,
  });
  return {
    plan: json === null ? null : (asked.data ?? null),
    error: asked.error,
    /** The one shown is of an earlier text, or about to be. */
    thinking: json !== null && (asked.isFetching || (automatic && settled !== json)),
    again: () => void asked.refetch(),
  };
}

/** Who wrote a model's newest revision, and when. */
export function useNewest(name: string, revision: number, wanted: boolean) {
  return useQuery({
    queryKey: ["newest", name, revision],
    queryFn: async () => {
      const { items } = await data(
        api.GET("/admin/v1/models/{name}/revisions", { params: { path: { name } } }),
      );
      return items.at(-1) ?? null;
    },
    enabled: wanted,
  });
}
