import { Button, Group, MultiSelect, Select, SimpleGrid, TextInput } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, data, type Schemas } from "../../api/client";
import { useModels } from "../../api/queries";
import { Chart, LINES } from "../../parts/Chart";
import { Loaded, Page } from "../../parts/Page";
import { count, short } from "../../parts/quantities";
import { type Column, VirtualTable } from "../../parts/VirtualTable";
import { byKeyAndModel, daysOf, overDays, type Sum } from "./sums";

const DAY_MS = 86_400_000;

function day(before: number): string {
  return new Date(Date.now() - before * DAY_MS).toISOString().slice(0, 10);
}

const COLUMNS: readonly Column<Sum>[] = [
  {
    key: "key",
    title: "Key",
    width: "minmax(140px, 2fr)",
    render: (sum) => <span title={sum.key_id}>{sum.key_name || sum.key_id || "–"}</span>,
  },
  { key: "model", title: "Model", width: "minmax(120px, 2fr)", render: (sum) => sum.model },
  {
    key: "requests",
    title: "Requests",
    width: "1fr",
    align: "right",
    render: (s) => count(s.requests),
  },
  { key: "errors", title: "Failed", width: "1fr", align: "right", render: (s) => count(s.errors) },
  {
    key: "prompt",
    title: "Prompt tokens",
    width: "1fr",
    align: "right",
    render: (sum) => count(sum.prompt_tokens),
  },
  {
    key: "completion",
    title: "Answer tokens",
    width: "1fr",
    align: "right",
    render: (sum) => count(sum.completion_tokens),
  },
  { key: "cost", title: "Cost", width: "1fr", align: "right", render: (s) => short(s.cost) },
];

export default function UsagePage() {
  const [since, setSince] = useState(() => day(29));
  const [until, setUntil] = useState(() => day(0));
  const [model, setModel] = useState<string | null>(null);
  const [keys, setKeys] = useState<string[]>([]);
  const models = useModels();
  // The API's *until* is the first day that is not in it.
  const query = {
    since,
    until: new Date(Date.parse(`${until}T00:00:00Z`) + DAY_MS).toISOString().slice(0, 10),
    model: model ?? "",
  };
  const usage = useQuery({
    queryKey: ["usage", query],
    queryFn: async () =>
      (
        await data(
          api.GET("/admin/v1/usage", {
            params: { query: { ...query, by: ["day", "key", "model"] } },
          }),
        )
      ).items,
    placeholderData: keepPreviousData,
  });
  const csv = new URLSearchParams(query);
  if (keys.length === 1 && keys[0] !== undefined) csv.set("key", keys[0]);
  const dates = (label: string, value: string, set: (value: string) => void) => (
    <TextInput
      type="date"
      label={label}
      value={value}
      onChange={(event) => {
        if (event.currentTarget.value !== "") set(event.currentTarget.value);
      }}
    />
  );
  return (
    <Page
      title="Usage"
      actions={
        <Button
          size="xs"
          variant="default"
          component="a"
          href={`/admin/v1/usage.csv?${csv.toString()}`}
          download="usage.csv"
        >
          CSV, one line a request
        </Button>
      }
    >
      <Loaded of={usage} what="the usage">
        {(all) => {
          const names = new Map(all.map((item) => [item.key_id, item.key_name || item.key_id]));
          const items = keys.length === 0 ? all : all.filter((item) => keys.includes(item.key_id));
          const days = daysOf(since, until);
          const at = days.map((one) => Date.parse(`${one}T00:00:00Z`) / 1000);
          const total = (value: (item: Schemas["UsageView"]) => number) =>
            items.reduce((sum, item) => sum + value(item), 0);
          return (
            <>
              <Group align="flex-end">
                {dates("From", since, setSince)}
                {dates("To", until, setUntil)}
                <Select
                  label="Model"
                  placeholder="all"
                  clearable
                  searchable
                  data={(models.data ?? []).map((one) => one.name)}
                  value={model}
                  onChange={setModel}
                />
                <MultiSelect
                  label="Keys"
                  placeholder={keys.length === 0 ? "all" : ""}
                  searchable
                  miw={220}
                  data={[...names].map(([value, label]) => ({ value, label }))}
                  value={keys}
                  onChange={setKeys}
                />
              </Group>
              <SimpleGrid cols={{ base: 1, md: 2 }} spacing="sm">
                <Chart
                  title="Tokens a day"
                  summary={`${short(total((item) => item.completion_tokens))} answered in all, ${short(total((item) => item.prompt_tokens))} of prompts`}
                  at={at}
                  format={short}
                  lines={[
                    {
                      label: "answers",
                      colour: LINES[0],
                      values: overDays(items, days, (item) => item.completion_tokens),
                    },
                    {
                      label: "prompts",
                      colour: LINES[1],
                      values: overDays(items, days, (item) => item.prompt_tokens),
                    },
                  ]}
                />
                <Chart
                  title="Requests a day"
                  summary={`${count(total((item) => item.requests))} in all, ${count(total((item) => item.errors))} failed`}
                  at={at}
                  format={short}
                  lines={[
                    {
                      label: "requests",
                      colour: LINES[0],
                      values: overDays(items, days, (item) => item.requests),
                    },
                    {
                      label: "failed",
                      colour: LINES[1],
                      values: overDays(items, days, (item) => item.errors),
                    },
                  ]}
                />
              </SimpleGrid>
              <VirtualTable
                label="Usage by key and model"
                columns={COLUMNS}
                rows={byKeyAndModel(items)}
                rowKey={(sum) => `${sum.key_id} ${sum.model}`}
                empty="Nothing was used in these days."
                height={480}
              />
            </>
          );
        }}
      </Loaded>
    </Page>
  );
}
