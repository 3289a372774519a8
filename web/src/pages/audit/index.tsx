import { TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useDeferredValue, useState } from "react";

import { api, data, type Schemas } from "../../api/client";
import { Ago } from "../../parts/Ago";
import { Loaded, Page } from "../../parts/Page";
import { type Column, VirtualTable } from "../../parts/VirtualTable";

type Entry = Schemas["AuditView"];

const NEWEST = 1000;

const COLUMNS: readonly Column<Entry>[] = [
  { key: "at", title: "When", width: "100px", render: (entry) => <Ago at={entry.at} /> },
  { key: "actor", title: "Who", width: "minmax(120px, 1fr)", render: (entry) => entry.actor },
  {
    key: "action",
    title: "Did what",
    width: "minmax(140px, 1fr)",
    render: (entry) => entry.action,
  },
  { key: "object", title: "To what", width: "minmax(160px, 2fr)", render: (entry) => entry.object },
  { key: "revisions", title: "Revision", width: "110px", render: revisions },
  { key: "from", title: "From", width: "130px", render: (entry) => entry.client_ip },
  {
    key: "request",
    title: "Request",
    width: "minmax(120px, 1fr)",
    render: (entry) => <span className="mono">{entry.request_id}</span>,
  },
];

function revisions({ before_revision, after_revision }: Entry): string {
  if (before_revision === null && after_revision === null) return "";
  return `${before_revision ?? "–"} → ${after_revision ?? "–"}`;
}

export default function AuditPage() {
  const audit = useQuery({
    queryKey: ["audit"],
    queryFn: async () =>
      (await data(api.GET("/admin/v1/audit", { params: { query: { limit: NEWEST } } }))).items,
    refetchInterval: 10_000,
  });
  const [search, setSearch] = useState("");
  const sought = useDeferredValue(search.trim().toLowerCase());
  return (
    <Page title="Audit">
      <Loaded of={audit} what="the audit">
        {(all) => (
          <>
            <TextInput
              label="Search"
              placeholder="who, what, to what"
              maw={320}
              value={search}
              onChange={(event) => {
                setSearch(event.currentTarget.value);
              }}
            />
            <VirtualTable
              label="What was asked for, the newest first"
              columns={COLUMNS}
              rows={all
                .filter((entry) =>
                  [entry.actor, entry.action, entry.object, entry.request_id]
                    .join(" ")
                    .toLowerCase()
                    .includes(sought),
                )
                .reverse()}
              rowKey={(entry) => String(entry.id)}
              empty="Nothing."
            />
          </>
        )}
      </Loaded>
    </Page>
  );
}
