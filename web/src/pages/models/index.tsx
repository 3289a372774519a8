import { Button, Chip, Group, Kbd, Text, TextInput } from "@mantine/core";
import { useHotkeys } from "@mantine/hooks";
import {
  type KeyboardEvent,
  memo,
  type RefObject,
  useCallback,
  useDeferredValue,
  useMemo,
  useRef,
} from "react";
import { Link, useSearchParams } from "react-router";

import type { Schemas } from "../../api/client";
import { useModels } from "../../api/queries";
import { useDenied } from "../../app/session";
import { Loaded, Page } from "../../parts/Page";
import { percent, rate, seconds } from "../../parts/quantities";
import { StateBadge } from "../../parts/StateBadge";
import { useTyped } from "../../parts/typed";
import { type Column, type TableHandle, VirtualTable } from "../../parts/VirtualTable";
import { listed, type State, STATES, topology, why, workers } from "./list";

type Model = Schemas["ModelSummary"];

const COLUMNS: readonly Column<Model>[] = [
  {
    key: "name",
    title: "Model",
    width: "minmax(140px, 1.2fr)",
    render: (model) => (
      <Link to={`/models/${encodeURIComponent(model.name)}`} title={model.source}>
        {model.name}
      </Link>
    ),
  },
  {
    key: "state",
    title: "State",
    width: "124px",
    render: (model) => <StateBadge state={model.state} />,
  },
  {
    key: "why",
    title: "Why",
    width: "minmax(120px, 2fr)",
    render: (model) => <span title={why(model)}>{why(model)}</span>,
  },
  {
    key: "topology",
    title: "Topology",
    width: "minmax(110px, 1fr)",
    render: (model) => <span title={topology(model.variants)}>{topology(model.variants)}</span>,
  },
  {
    key: "workers",
    title: "Ready",
    width: "68px",
    align: "right",
    render: (model) => <Workers of={model} />,
  },
  {
    key: "requests",
    title: "Req/s",
    width: "62px",
    align: "right",
    render: (model) => rate(model.rates.requests_per_s),
  },
  {
    key: "errors",
    title: "Errors",
    width: "66px",
    align: "right",
    render: (model) => <Errors of={model} />,
  },
  {
    key: "tokens",
    title: "Tok/s",
    width: "64px",
    align: "right",
    render: (model) => rate(model.rates.completion_tokens_per_s),
  },
  {
    key: "ttft",
    title: "TTFT",
    width: "76px",
    align: "right",
    render: (model) => seconds(model.rates.ttft_p50_s),
  },
  {
    key: "tpot",
    title: "TPOT",
    width: "76px",
    align: "right",
    render: (model) => seconds(model.rates.tpot_p50_s),
  },
  {
    key: "queued",
    title: "Queued",
    width: "78px",
    align: "right",
    render: (model) => model.rates.queued ?? "–",
  },
];

function Workers({ of }: { of: Model }) {
  const { ready, asleep, desired } = workers(of);
  const words = asleep > 0 ? `${asleep} asleep` : "";
  return (
    <span title={words}>
      {ready} / {desired}
    </span>
  );
}

function Errors({ of }: { of: Model }) {
  const share = of.rates.error_rate;
  if (share === null || share === 0) return share === null ? "–" : percent(share);
  return (
    <Text span inherit c="red">
      {percent(share)}
    </Text>
  );
}

export default function ModelsPage() {
  const models = useModels();
  const denied = useDenied();
  return (
    <Page
      title="Models"
      actions={
        <Button
          component={Link}
          to="/new"
          size="xs"
          variant={denied === null ? "filled" : "default"}
        >
          New model
        </Button>
      }
    >
      <Loaded of={models} what="the models">
        {(all) => <List all={all} />}
      </Loaded>
    </Page>
  );
}

function List({ all }: { all: readonly Model[] }) {
  const [params, setParams] = useSearchParams();
  const [search, setSearch] = useTyped("search");
  const stateKey = params.getAll("state").join(",");
  const field = useRef<HTMLInputElement>(null);
  const table = useRef<TableHandle>(null);
  useHotkeys([["/", () => field.current?.focus()]]);

  // What is typed shows at once; the rows follow when there is time.
  const asked = useDeferredValue(search);
  const { by, rows } = useMemo(
    () => listed(all, asked, stateKey.split(",").filter(Boolean)),
    [all, asked, stateKey],
  );
  const setStates = useCallback(
    (wanted: string[]) => {
      setParams((known) => withStates(known, wanted), { replace: true });
    },
    [setParams],
  );
  const leave = (event: KeyboardEvent) => {
    if (event.key === "ArrowDown" && rows.length > 0) {
      event.preventDefault();
      table.current?.focusRow(0);
    }
    if (event.key === "Escape") setSearch("");
  };
  return (
    <>
      <Group gap="sm" align="center">
        <TextInput
          ref={field}
          aria-label="Search by name, owner or source"
          placeholder="Search by name, owner or source"
          w={320}
          maw="100%"
          size="xs"
          value={search}
          rightSection={search === "" ? <Kbd size="xs">/</Kbd> : null}
          onChange={(event) => {
            setSearch(event.currentTarget.value);
          }}
          onKeyDown={leave}
        />
        <StateChips by={by} chosen={stateKey} onChange={setStates} />
        <Text size="sm" c="dimmed" className="num" role="status">
          {rows.length === all.length ? `${all.length} models` : `${rows.length} of ${all.length}`}
        </Text>
      </Group>
      <Rows rows={rows} any={all.length > 0} handle={table} />
    </>
  );
}

/** Apart, so that a struck key draws the field and no row. */
const Rows = memo(function Rows({
  rows,
  any,
  handle,
}: {
  rows: readonly Model[];
  any: boolean;
  handle: RefObject<TableHandle | null>;
}) {
  return (
    <VirtualTable
      label="Models"
      columns={COLUMNS}
      rows={rows}
      rowKey={(model) => model.name}
      empty={
        any
          ? "No model fits what you search for."
          : "No model is declared yet. Make one with “New model”, or by `modelyard apply -f FILE`."
      }
      height="calc(100vh - 170px)"
      minWidth={1010}
      handle={handle}
    />
  );
});

function withStates(known: URLSearchParams, states: readonly string[]): URLSearchParams {
  const next = new URLSearchParams(known);
  next.delete("state");
  states.forEach((state) => {
    next.append("state", state);
  });
  return next;
}

/** Apart, as `Rows` is. */
const StateChips = memo(function StateChips({
  by,
  chosen,
  onChange,
}: {
  by: ReadonlyMap<State, number>;
  /** With commas between. */
  chosen: string;
  onChange: (states: string[]) => void;
}) {
  const states = chosen.split(",").filter(Boolean);
  const offered = STATES.filter((state) => by.has(state) || states.includes(state));
  return (
    <Chip.Group multiple value={states} onChange={onChange}>
      <Group gap={6} role="group" aria-label="Only models in these states">
        {offered.map((state) => (
          <Chip key={state} value={state} size="xs" variant="outline">
            {state} <span className="num">{by.get(state) ?? 0}</span>
          </Chip>
        ))}
      </Group>
    </Chip.Group>
  );
});
