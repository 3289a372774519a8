import { Center, Loader, MantineProvider } from "@mantine/core";
import { Notifications } from "@mantine/notifications";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { lazy, Suspense } from "react";
import { BrowserRouter, Route, Routes } from "react-router";

import { ApiError } from "../api/errors";
import { Page } from "../parts/Page";
import { Problem } from "../parts/Problem";
import { nonce } from "./nonce";
import { SessionGate } from "./session";
import { Shell } from "./Shell";
import { SignIn } from "./SignIn";
import { theme, variables } from "./theme";

const overview = () => import("../pages/overview");
const OverviewPage = lazy(overview);
const ModelsPage = lazy(() => import("../pages/models"));
const ModelPage = lazy(() => import("../pages/model"));
const EditPage = lazy(() => import("../pages/edit"));
const FleetPage = lazy(() => import("../pages/fleet"));
const PlannerPage = lazy(() => import("../pages/planner"));
const PlaygroundPage = lazy(() => import("../pages/playground"));
const KeysPage = lazy(() => import("../pages/keys"));
const UsagePage = lazy(() => import("../pages/usage"));
const EventsPage = lazy(() => import("../pages/events"));
const AuditPage = lazy(() => import("../pages/audit"));
const AccountsPage = lazy(() => import("../pages/accounts"));

// The page that most begin with loads while it is asked who is signed in. Where that fails, it is
// told by the page itself, which asks again.
if (window.location.pathname === "/") overview().catch(() => undefined);

const client = new QueryClient({
  defaultOptions: {
    queries: {
      // A refusal stays one; a gateway that starts anew is asked again.
      retry: (failures, error) =>
        failures < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
      refetchOnWindowFocus: false,
    },
  },
});

const loading = (
  <Center mih={240}>
    <Loader role="status" aria-label="Loading" />
  </Center>
);

export function App() {
  return (
    <MantineProvider
      theme={theme}
      cssVariablesResolver={variables}
      defaultColorScheme="auto"
      getStyleNonce={nonce}
    >
      <Notifications position="top-right" />
      <QueryClientProvider client={client}>
        <SessionGate
          loading={loading}
          signIn={<SignIn />}
          failed={(error) => <Problem error={error} title="The console cannot start" />}
        >
          <BrowserRouter>
            <Suspense fallback={loading}>
              <Routes>
                <Route element={<Shell />}>
                  <Route index element={<OverviewPage />} />
                  <Route path="models" element={<ModelsPage />} />
                  <Route path="models/:name" element={<ModelPage />} />
                  <Route path="models/:name/edit" element={<EditPage />} />
                  <Route path="new" element={<EditPage />} />
                  <Route path="fleet" element={<FleetPage />} />
                  <Route path="planner" element={<PlannerPage />} />
                  <Route path="playground" element={<PlaygroundPage />} />
                  <Route path="keys" element={<KeysPage />} />
                  <Route path="usage" element={<UsagePage />} />
                  <Route path="events" element={<EventsPage />} />
                  <Route path="audit" element={<AuditPage />} />
                  <Route path="accounts" element={<AccountsPage />} />
                  <Route
                    path="*"
                    element={<Page title="No such page">The address leads nowhere here.</Page>}
                  />
                </Route>
              </Routes>
            </Suspense>
          </BrowserRouter>
        </SessionGate>
      </QueryClientProvider>
    </MantineProvider>
  );
}
