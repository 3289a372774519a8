import { useQueryClient } from "@tanstack/react-query";
import { useCallback, useSyncExternalStore } from "react";

import { type LiveState, useLiveState } from "./live";
import { ofPolls } from "./polls";

/** How what is on screen is kept up to date. */
export type Following = LiveState | "refreshed" | "silent";

export function useFollowing(): Following {
  const live = useLiveState();
  const cache = useQueryClient().getQueryCache();
  const subscribe = useCallback((changed: () => void) => cache.subscribe(changed), [cache]);
  const polls = useSyncExternalStore(subscribe, () => ofPolls(cache.findAll({ type: "active" })));
  return live === "paused" ? polls : live;
}
