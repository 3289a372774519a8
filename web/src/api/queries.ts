import { queryOptions, type UseQueryResult, useQuery } from "@tanstack/react-query";

import { api, data, type Schemas } from "./client";
import { useLive } from "./live";

// What several pages read. Each is asked for once, and then kept up to date by the stream.

export const OVERVIEW = queryOptions({
  queryKey: ["overview"],
  queryFn: () => data(api.GET("/admin/v1/overview")),
  staleTime: Infinity,
});

export function useOverview(): UseQueryResult<Schemas["OverviewView"]> {
  useLive(["overview"]);
  return useQuery(OVERVIEW);
}

export const MODELS = queryOptions({
  queryKey: ["models"],
  queryFn: async () => [...(await data(api.GET("/admin/v1/models"))).items],
  staleTime: Infinity,
});

export function useModels(): UseQueryResult<Schemas["ModelSummary"][]> {
  useLive(["models"]);
  return useQuery(MODELS);
}

export function useFlow(name: string): UseQueryResult<Schemas["FlowView"]> {
  useLive(["flow"], name);
  return useQuery({
    queryKey: ["flow", name],
    queryFn: () => data(api.GET("/admin/v1/models/{name}/flow", { params: { path: { name } } })),
    staleTime: Infinity,
  });
}

/** A model with its spec, workers and newest events; read again as it changes. */
export function useModel(name: string): UseQueryResult<Schemas["ModelView"]> {
  return useQuery({
    queryKey: ["model", name],
    queryFn: () => data(api.GET("/admin/v1/models/{name}", { params: { path: { name } } })),
    refetchInterval: 5000,
  });
}

export function useNodes(): UseQueryResult<readonly Schemas["NodeView"][]> {
  return useQuery({
    queryKey: ["nodes"],
    queryFn: async () => (await data(api.GET("/admin/v1/nodes"))).items,
    refetchInterval: 5000,
  });
}

const FLEET_POLL_MS = 5000;
const DEVICES_FEW = 1000;

/** Who holds how much of which device. A large fleet is megabytes: it is asked for less often. */
export function useFleet(): UseQueryResult<Schemas["FleetView"]> {
  return useQuery({
    queryKey: ["fleet"],
    queryFn: () => data(api.GET("/admin/v1/fleet")),
    refetchInterval: ({ state }) => {
      const devices = state.data?.nodes.reduce((sum, node) => sum + node.devices.length, 0) ?? 0;
      return FLEET_POLL_MS * Math.max(1, devices / DEVICES_FEW);
    },
  });
}
