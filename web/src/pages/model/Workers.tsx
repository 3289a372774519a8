import { Link, useSearchParams } from "react-router";

import type { Schemas } from "../../api/client";
import { Ago } from "../../parts/Ago";
import { percent } from "../../parts/quantities";
import { StateBadge } from "../../parts/StateBadge";
import { type Column, VirtualTable } from "../../parts/VirtualTable";
import { changed } from "./address";
import { phaseWord, workerName } from "./pipeline/layout";

type Worker = Schemas["WorkerView"];

/** All workers of a model; each leads to its details and its log. */
export function Workers({ model }: { model: Schemas["ModelView"] }) {
  const workers = model.variants.flatMap((variant) => variant.workers);
  return (
    <VirtualTable
      label={`Workers of ${model.name}`}
      columns={COLUMNS}
      rows={workers}
      rowKey={(worker) => worker.id}
      empty="No worker is there. The condition above says why, as soon as the controller knows."
      height="calc(100vh - 300px)"
      minWidth={960}
    />
  );
}

function Name({ of }: { of: Worker }) {
  const [params] = useSearchParams();
  return (
    <Link to={changed(params, { worker: of.id })} title={`${of.id}: facts and log`}>
      {workerName(of)}
    </Link>
  );
}

const COLUMNS: readonly Column<Worker>[] = [
  { key: "name", title: "Worker", width: "110px", render: (worker) => <Name of={worker} /> },
  { key: "variant", title: "Variant", width: "minmax(80px, 1fr)", render: (w) => w.variant },
  {
    key: "phase",
    title: "Phase",
    width: "120px",
    render: (worker) => <StateBadge state={phaseWord(worker)} />,
  },
  {
    key: "reason",
    title: "Why",
    width: "minmax(100px, 2fr)",
    render: (worker) => <span title={worker.reason}>{worker.reason}</span>,
  },
  { key: "node", title: "Node", width: "minmax(80px, 1fr)", render: (worker) => worker.node },
  {
    key: "devices",
    title: "Devices",
    width: "minmax(80px, 1fr)",
    render: (worker) => <span title={worker.devices.join(", ")}>{worker.devices.join(", ")}</span>,
  },
  {
    key: "load",
    title: "Run / wait",
    width: "86px",
    align: "right",
    render: ({ metrics }) =>
      metrics ? `${metrics.requests_running} / ${metrics.requests_waiting}` : "–",
  },
  {
    key: "kv",
    title: "KV cache",
    width: "80px",
    align: "right",
    render: ({ metrics }) => percent(metrics?.kv_cache_usage),
  },
  { key: "restarts", title: "Ended", width: "64px", align: "right", render: (w) => w.restarts },
  {
    key: "revision",
    title: "Rev.",
    width: "52px",
    align: "right",
    render: (worker) => worker.revision,
  },
  {
    key: "age",
    title: "Placed",
    width: "90px",
    align: "right",
    render: (worker) => <Ago at={worker.created_at} />,
  },
];
