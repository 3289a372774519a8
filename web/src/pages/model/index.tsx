import "./model.css";

import { Anchor, Group, Stack, Tabs, Text } from "@mantine/core";
import { lazy, type ReactNode, Suspense } from "react";
import { Link, useParams, useSearchParams } from "react-router";

import type { Schemas } from "../../api/client";
import { useModel } from "../../api/queries";
import { Ago } from "../../parts/Ago";
import { Loaded, Page } from "../../parts/Page";
import { StateBadge } from "../../parts/StateBadge";
import { Actions } from "./Actions";
import { changed } from "./address";
import { Charts } from "./Charts";
import { Events } from "./Events";
import { Head } from "./Head";
import { Pipeline } from "./pipeline/Pipeline";
import { useFreshAtEvents } from "./queries";
import { RolloutSteps } from "./Rollout";
import { WorkerDetail } from "./WorkerDetail";
import { Workers } from "./Workers";

// It brings an editor with it, which the other parts do without.
const Revisions = lazy(() => import("./Revisions"));

type Model = Schemas["ModelView"];

const TABS: readonly { key: string; label: string; show: (model: Model) => ReactNode }[] = [
  { key: "pipeline", label: "Pipeline", show: (model) => <Pipeline model={model} /> },
  { key: "charts", label: "Charts", show: (model) => <Charts model={model} /> },
  { key: "workers", label: "Workers and logs", show: (model) => <Workers model={model} /> },
  { key: "revisions", label: "Revisions", show: (model) => <Revisions model={model} /> },
  { key: "rollout", label: "Rollout", show: (model) => <RolloutSteps model={model} /> },
  { key: "events", label: "Events", show: (model) => <Events name={model.name} /> },
];

export default function ModelPage() {
  const { name = "" } = useParams();
  const model = useModel(name);
  useFreshAtEvents(name);
  return (
    <Page
      title={name}
      beside={model.data && <StateBadge state={model.data.state} />}
      actions={model.data && <Actions model={model.data} />}
    >
      <Loaded of={model} what={`the model ${name}`}>
        {(of) => <Shown model={of} />}
      </Loaded>
    </Page>
  );
}

function Shown({ model }: { model: Model }) {
  const [params, setParams] = useSearchParams();
  const tab = TABS.find((one) => one.key === params.get("tab"))?.key ?? "pipeline";
  const worker = params.get("worker");
  const workers = model.variants.flatMap((variant) => variant.workers);
  return (
    <Stack gap="sm">
      <Source model={model} />
      <Head model={model} />
      <Tabs value={tab} keepMounted={false}>
        <Tabs.List aria-label={`Parts of ${model.name}`}>
          {TABS.map(({ key, label }) => (
            <Tabs.Tab
              key={key}
              value={key}
              onClick={() => {
                setParams(changed(params, { tab: key }));
              }}
            >
              {label}
            </Tabs.Tab>
          ))}
        </Tabs.List>
        {TABS.map(({ key, show }) => (
          <Tabs.Panel key={key} value={key} pt="sm">
            <Suspense>{show(model)}</Suspense>
          </Tabs.Panel>
        ))}
      </Tabs>
      <WorkerDetail
        id={worker}
        worker={workers.find((one) => one.id === worker)}
        close={() => {
          setParams(changed(params, { worker: null }));
        }}
      />
    </Stack>
  );
}

/** A spec has only what differs from the defaults. */
function ownedBy({ owner, priority }: { owner?: string; priority?: number }): string {
  const words = [`owner ${owner ?? "default"}`];
  if (priority !== undefined) words.push(`priority ${priority}`);
  return words.join(", ");
}

function Source({ model }: { model: Model }) {
  return (
    <Group gap="md">
      <Text size="sm" c="dimmed" className="wrap">
        {model.spec.source}
      </Text>
      <Text size="sm" c="dimmed">
        {ownedBy(model.spec)}
      </Text>
      <Anchor component={Link} size="sm" to="?tab=revisions">
        revision {model.revision}
      </Anchor>
      <Text size="sm" c="dimmed">
        changed <Ago at={model.updated_at} />
      </Text>
    </Group>
  );
}
