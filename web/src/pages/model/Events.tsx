import { useMemo } from "react";

import { Ago } from "../../parts/Ago";
import { Loaded } from "../../parts/Page";
import { type Column, VirtualTable } from "../../parts/VirtualTable";
import { type Event, useModelEvents } from "./queries";

const COLUMNS: readonly Column<Event>[] = [
  { key: "at", title: "When", width: "90px", render: (event) => <Ago at={event.at} /> },
  {
    key: "kind",
    title: "Kind",
    width: "150px",
    render: (event) => event.kind.replaceAll("-", " "),
  },
  {
    key: "worker",
    title: "Worker",
    width: "minmax(120px, 1fr)",
    render: (event) => <span title={event.worker}>{event.worker}</span>,
  },
  { key: "node", title: "Node", width: "minmax(80px, 0.7fr)", render: (event) => event.node },
  {
    key: "message",
    title: "What",
    width: "minmax(200px, 4fr)",
    render: (event) => <span title={event.message}>{event.message}</span>,
  },
];

/** What happened to the model, newest first, as it happens. */
export function Events({ name }: { name: string }) {
  const events = useModelEvents(name);
  return (
    <Loaded of={events} what="the events">
      {(of) => <Newest of={of} name={name} />}
    </Loaded>
  );
}

function Newest({ of, name }: { of: readonly Event[]; name: string }) {
  const rows = useMemo(() => [...of].reverse(), [of]);
  return (
    <VirtualTable
      label={`Events of ${name}`}
      columns={COLUMNS}
      rows={rows}
      rowKey={(event) => String(event.id)}
      empty="Nothing has happened to it, as far as events are kept."
      height="calc(100vh - 300px)"
      minWidth={760}
    />
  );
}
