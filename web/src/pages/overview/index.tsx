import {
  Anchor,
  Badge,
  Card,
  Group,
  Paper,
  SimpleGrid,
  Stack,
  Table,
  Text,
  Title,
} from "@mantine/core";
import { IconCircleCheck } from "@tabler/icons-react";
import { queryOptions, usePrefetchQuery, useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { api, data, type Schemas } from "../../api/client";
import { useLive } from "../../api/live";
import { MODELS, OVERVIEW, useModels, useOverview } from "../../api/queries";
import { Advice } from "../../parts/Advice";
import { Chart, LINES } from "../../parts/Chart";
import { Loaded, Page } from "../../parts/Page";
import { bytes, count, percent, rate, seconds } from "../../parts/quantities";
import { StateBadge } from "../../parts/StateBadge";
import { briefly, feeding, inOrderOfNeed, linkOf } from "./needs";

const SERIES_EVERY_MS = 15_000;
const MODELS_SHOWN = 12;
const NOWRAP = { whiteSpace: "nowrap" } as const;

const LAST_HOUR = queryOptions({
  queryKey: ["series"],
  queryFn: () => data(api.GET("/admin/v1/series", { params: { query: { since_s: 3600 } } })),
  refetchInterval: SERIES_EVERY_MS,
});

export default function OverviewPage() {
  // All of it is asked for at once, and before anything is drawn.
  usePrefetchQuery(OVERVIEW);
  usePrefetchQuery(MODELS);
  usePrefetchQuery(LAST_HOUR);
  useLive(["models"]);
  const overview = useOverview();
  return (
    <Page title="Overview">
      <Loaded of={overview} what="the overview">
        {(now) => (
          <>
            <Problems of={now} />
            <Numbers of={now} />
            <Models />
            <LastHour />
          </>
        )}
      </Loaded>
    </Page>
  );
}

const SEVERITIES = {
  error: { colour: "red", word: "wrong" },
  warning: { colour: "yellow", word: "look" },
  info: { colour: "blue", word: "note" },
} as const;

function Problems({ of: now }: { of: Schemas["OverviewView"] }) {
  const more = now.problems_total - now.problems.length;
  return (
    <Paper withBorder p="md" component="section" aria-labelledby="wrong">
      <Title order={2} id="wrong" mb="xs">
        What is wrong
      </Title>
      {now.problems.length === 0 ? (
        <Group gap="xs">
          <IconCircleCheck aria-hidden color="var(--mantine-color-green-7)" size={20} />
          <Text>{now.counts.models === 0 ? "Nothing, and nothing is declared." : "Nothing."}</Text>
          {now.counts.models === 0 && <Link to="/new">Declare a model</Link>}
        </Group>
      ) : (
        <Stack component="ul" gap="sm" m={0} p={0} style={{ listStyle: "none" }}>
          {now.problems.map((problem) => (
            <Group
              component="li"
              key={`${problem.kind} ${problem.name} ${problem.sentence}`}
              gap="sm"
              wrap="nowrap"
              align="flex-start"
            >
              <Badge
                color={SEVERITIES[problem.severity].colour}
                tt="none"
                variant="light"
                w={64}
                style={{ flexShrink: 0 }}
              >
                {SEVERITIES[problem.severity].word}
              </Badge>
              <div style={{ flexGrow: 1 }}>
                <Text>
                  {problem.kind} <Link to={linkOf(problem)}>{problem.name}</Link>:{" "}
                  {problem.sentence}
                </Text>
                {problem.advice !== "" && (
                  <Text size="sm" className="wrap">
                    What to do: <Advice of={briefly(problem)} model={problem.name} />
                  </Text>
                )}
              </div>
              {(problem.kind === "model" || problem.kind === "rollout") && (
                <Anchor
                  component={Link}
                  size="sm"
                  style={NOWRAP}
                  to={`/models/${encodeURIComponent(problem.name)}?tab=pipeline`}
                >
                  its pipeline
                </Anchor>
              )}
            </Group>
          ))}
          {more > 0 && <li>and {count(more)} more</li>}
        </Stack>
      )}
    </Paper>
  );
}

function Numbers({ of: now }: { of: Schemas["OverviewView"] }) {
  const { counts, rates, fleet } = now;
  const errors = rates.error_rate === null ? "" : `, ${percent(rates.error_rate)} failed`;
  const tiles: readonly { name: string; value: string; beside: string; to: string }[] = [
    {
      name: "Models that answer",
      value: `${count(counts.answering)} of ${count(counts.models)}`,
      beside: `${count(counts.asleep)} asleep, ${count(counts.failing)} failing`,
      to: "/models",
    },
    {
      name: "Requests",
      value: `${rate(rates.requests_per_s)} /s`,
      beside: `${count(rates.in_flight)} in flight, ${count(rates.queued)} queued${errors}`,
      to: "/models",
    },
    {
      name: "Tokens",
      value: `${rate(rates.completion_tokens_per_s)} /s`,
      beside: `${rate(rates.prompt_tokens_per_s)} /s of prompts`,
      to: "/usage",
    },
    {
      name: "TTFT, median",
      value: seconds(rates.ttft_p50_s),
      beside: `p95 ${seconds(rates.ttft_p95_s)}`,
      to: "/models",
    },
    {
      name: "TPOT, median",
      value: seconds(rates.tpot_p50_s),
      beside: `p95 ${seconds(rates.tpot_p95_s)}`,
      to: "/models",
    },
    {
      name: "Device memory claimed",
      value: percent(fleet.memory_bytes === 0 ? null : fleet.claimed_bytes / fleet.memory_bytes),
      beside: `${bytes(fleet.claimed_bytes)} of ${bytes(fleet.memory_bytes)}, in use ${bytes(fleet.used_bytes)}`,
      to: "/fleet",
    },
    {
      name: "Devices in use",
      value: `${count(fleet.devices_claimed)} of ${count(fleet.devices)}`,
      beside: `on ${count(counts.nodes_ready)} of ${count(counts.nodes)} nodes that are ready`,
      to: "/fleet",
    },
    {
      name: "Workers ready",
      value: `${count(counts.workers_ready)} of ${count(counts.workers_live)}`,
      beside: "of those that live",
      to: "/fleet",
    },
  ];
  return (
    <SimpleGrid cols={{ base: 1, xs: 2, md: 4 }} spacing="sm" component="section" aria-label="Now">
      {tiles.map((tile) => (
        <Card
          key={tile.name}
          withBorder
          p="sm"
          component={Link}
          to={tile.to}
          style={{ textDecoration: "none" }}
        >
          <Text size="sm" c="dimmed">
            {tile.name}
          </Text>
          <Text fz={22} fw={600} className="num" c="var(--mantine-color-text)">
            {tile.value}
          </Text>
          <Text size="xs" c="dimmed" className="num">
            {tile.beside}
          </Text>
        </Card>
      ))}
    </SimpleGrid>
  );
}

function Models() {
  const models = useModels();
  return (
    <Paper withBorder p="md" component="section" aria-labelledby="models">
      <Title order={2} id="models" mb="xs">
        Can each model answer
      </Title>
      <Loaded of={models} what="the models">
        {(all) => (
          <>
            <Table.ScrollContainer minWidth={860}>
              <Table>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>Model</Table.Th>
                    <Table.Th>State</Table.Th>
                    <Table.Th>Pipeline</Table.Th>
                    <Table.Th>Why</Table.Th>
                    <Table.Th ta="right">Requests/s</Table.Th>
                    <Table.Th ta="right">Tokens/s</Table.Th>
                    <Table.Th ta="right">TTFT</Table.Th>
                    <Table.Th ta="right">Queued</Table.Th>
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {inOrderOfNeed(all)
                    .slice(0, MODELS_SHOWN)
                    .map((model) => (
                      <Table.Tr key={model.name}>
                        <Table.Td>
                          <Link to={`/models/${model.name}`}>{model.name}</Link>
                        </Table.Td>
                        <Table.Td>
                          <StateBadge state={model.state} />
                        </Table.Td>
                        <Table.Td style={NOWRAP}>
                          <Link
                            to={`/models/${encodeURIComponent(model.name)}?tab=pipeline`}
                            title={`The pipeline of ${model.name} as a picture`}
                          >
                            {feeding(model.variants)}
                          </Link>
                        </Table.Td>
                        <Table.Td className="wrap">{model.condition}</Table.Td>
                        <Table.Td ta="right">{rate(model.rates.requests_per_s)}</Table.Td>
                        <Table.Td ta="right">{rate(model.rates.completion_tokens_per_s)}</Table.Td>
                        <Table.Td ta="right" style={NOWRAP}>
                          {seconds(model.rates.ttft_p50_s)}
                        </Table.Td>
                        <Table.Td ta="right">{count(model.rates.queued)}</Table.Td>
                      </Table.Tr>
                    ))}
                </Table.Tbody>
              </Table>
            </Table.ScrollContainer>
            <Text size="sm" mt="xs">
              <Link to="/models">All {count(all.length)} models</Link>
            </Text>
          </>
        )}
      </Loaded>
    </Paper>
  );
}

function LastHour() {
  const series = useQuery(LAST_HOUR);
  return (
    <Loaded of={series} what="the last hour">
      {({ points, step_s }) => {
        const at = points.map((point) => Date.parse(point.at) / 1000);
        const newest = points.at(-1);
        return (
          <SimpleGrid
            cols={{ base: 1, md: 2 }}
            spacing="sm"
            component="section"
            aria-label="The last hour"
          >
            <Chart
              title="Tokens a second"
              summary={newest === undefined ? "" : `now ${rate(newest.completion_tokens / step_s)}`}
              at={at}
              format={rate}
              lines={[
                {
                  label: "answers",
                  colour: LINES[0],
                  values: points.map((point) => point.completion_tokens / step_s),
                },
                {
                  label: "prompts",
                  colour: LINES[1],
                  values: points.map((point) => point.prompt_tokens / step_s),
                },
              ]}
            />
            <Chart
              title="Time to first token"
              summary={`median now ${seconds(newest?.ttft_p50_s)}`}
              at={at}
              format={seconds}
              lines={[
                {
                  label: "median",
                  colour: LINES[0],
                  values: points.map((point) => point.ttft_p50_s),
                },
                { label: "p95", colour: LINES[1], values: points.map((point) => point.ttft_p95_s) },
              ]}
            />
          </SimpleGrid>
        );
      }}
    </Loaded>
  );
}
