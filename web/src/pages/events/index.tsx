import { Group, Select, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useDeferredValue, useState } from "react";
import { Link } from "react-router";

import { api, data, type Schemas } from "../../api/client";
import { useLive } from "../../api/live";
import { Ago } from "../../parts/Ago";
import { Loaded, Page } from "../../parts/Page";
import { type Column, VirtualTable } from "../../parts/VirtualTable";

type Event = Schemas["EventView"];

const FIRST = 1000;

const COLUMNS: readonly Column<Event>[] = [
  { key: "at", title: "When", width: "100px", render: (event) => <Ago at={event.at} /> },
  { key: "kind", title: "What", width: "150px", render: (event) => event.kind },
  {
    key: "of",
    title: "Of",
    width: "minmax(140px, 1fr)",
    render: (event) =>
      event.model !== "" ? (
        <Link to={`/models/${event.model}?tab=events`}>{event.model}</Link>
      ) : (
        event.node
      ),
  },
  {
    key: "message",
    title: "Message",
    width: "minmax(300px, 4fr)",
    render: (event) => (
      <span title={`${event.worker} ${event.message}`.trim()}>{event.message}</span>
    ),
  },
];

export default function EventsPage() {
  useLive(["events"]);
  const events = useQuery({
    queryKey: ["events"],
    queryFn: async () => [
      ...(await data(api.GET("/admin/v1/events", { params: { query: { limit: FIRST } } }))).items,
    ],
    staleTime: Infinity,
  });
  const [search, setSearch] = useState("");
  const [kind, setKind] = useState<string | null>(null);
  const sought = useDeferredValue(search.trim().toLowerCase());
  return (
    <Page title="Events">
      <Loaded of={events} what="the events">
        {(all) => {
          const rows = all
            .filter((event) => kind === null || event.kind === kind)
            .filter((event) =>
              [event.model, event.worker, event.node, event.message]
                .join(" ")
                .toLowerCase()
                .includes(sought),
            )
            .reverse();
          const kinds = [...new Set(all.map((event) => event.kind))].sort();
          return (
            <>
              <Group>
                <TextInput
                  label="Search"
                  placeholder="a model, worker, node, word"
                  value={search}
                  onChange={(event) => {
                    setSearch(event.currentTarget.value);
                  }}
                />
                <Select label="Kind" clearable data={kinds} value={kind} onChange={setKind} />
              </Group>
              <VirtualTable
                label="Events, the newest first"
                columns={COLUMNS}
                rows={rows}
                rowKey={(event) => String(event.id)}
                empty={all.length === 0 ? "Nothing has happened yet." : "None that is like this."}
              />
            </>
          );
        }}
      </Loaded>
    </Page>
  );
}
