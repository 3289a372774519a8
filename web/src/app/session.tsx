import { useQuery, useQueryClient } from "@tanstack/react-query";
import { createContext, type ReactNode, useContext, useEffect } from "react";

import { api, data, type Schemas, setCsrf, whenSignedOut } from "../api/client";

type Session = Schemas["SessionView"];

const SessionContext = createContext<Session | null>(null);

/** Who is signed in. Only for what `SessionGate` shows. */
export function useSession(): Session {
  const session = useContext(SessionContext);
  if (session === null) throw new Error("useSession outside of SessionGate");
  return session;
}

/** Why an action is not offered to who is signed in; null: it is. */
export function useDenied(): string | null {
  return useSession().role === "admin"
    ? null
    : "You are signed in as a viewer. An admin can do this.";
}

/** Signs out here and at the gateway. */
export function useSignOut(): () => Promise<void> {
  const client = useQueryClient();
  return async () => {
    await api.DELETE("/admin/v1/session");
    setCsrf(null);
    client.setQueryData(["session"], null);
  };
}

export function SessionGate({
  signIn,
  loading,
  failed,
  children,
}: {
  signIn: ReactNode;
  loading: ReactNode;
  failed: (error: unknown) => ReactNode;
  children: ReactNode;
}) {
  const client = useQueryClient();
  const asked = useQuery({
    queryKey: ["session"],
    queryFn: async (): Promise<Session | null> => {
      const session = await data(api.GET("/admin/v1/session"));
      setCsrf(session?.csrf ?? null);
      return session;
    },
    staleTime: Infinity,
    retry: false,
  });
  useEffect(() => {
    whenSignedOut(() => {
      setCsrf(null);
      client.setQueryData(["session"], null);
    });
  }, [client]);
  const nobody = asked.data === null;
  useEffect(() => {
    // Nobody sees what another has loaded. Only now: while its pages were on screen they held it.
    if (nobody) client.removeQueries({ predicate: ({ queryKey }) => queryKey[0] !== "session" });
  }, [client, nobody]);
  if (asked.isPending) return loading;
  if (asked.isError) return failed(asked.error);
  if (asked.data === null) return signIn;
  return <SessionContext value={asked.data}>{children}</SessionContext>;
}
