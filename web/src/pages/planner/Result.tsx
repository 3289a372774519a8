import { Badge, Group, List, Paper, Stack, Table, Text, Title } from "@mantine/core";
import { type ReactNode, useMemo } from "react";
import { useNavigate } from "react-router";

import type { Handed } from "../edit/recommended";
import { useModels } from "../../api/queries";
import { ChangeButton } from "../../parts/Action";
import { Chart, LINES } from "../../parts/Chart";
import { percent, seconds, short } from "../../parts/quantities";
import type { Body } from "./asked";
import { FAMILIES, type ModelPlan, type Plan, type Shape } from "./plan";
import {
  chosenOf,
  curves,
  devicesWords,
  frontierWords,
  goodputWords,
  ms,
  pointAt,
  servedTone,
  shapeWords,
} from "./words";

/** A plan: all of it in a table, then each model with what else it could be. */
export function Result({ plan, asked }: { plan: Plan; asked: Body }) {
  return (
    <Stack gap="md">
      <div>
        <Title order={2}>Recommended</Title>
        <Text size="sm">
          Devices: {devicesWords(plan, asked)}. Goodput: {goodputWords(plan)}
        </Text>
      </div>
      <Table.ScrollContainer minWidth={640} scrollAreaProps={{ viewportProps: { tabIndex: 0 } }}>
        <Table verticalSpacing={6} horizontalSpacing="xs" fz="sm" aria-label="Recommended">
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Model</Table.Th>
              <Table.Th>Topology</Table.Th>
              <Table.Th>Devices</Table.Th>
              <Table.Th ta="right">Holds / asked, a second</Table.Th>
              <Table.Th ta="right">Served</Table.Th>
              <Table.Th ta="right">Within SLO</Table.Th>
              <Table.Th>Why not more</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {plan.models.map((model) => (
              <Row key={model.model} model={model} />
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
      {plan.notes.length > 0 && (
        <Text size="sm" c="dimmed" component="div">
          No place:
          <List size="sm">
            {plan.notes.map((note) => (
              <List.Item key={note}>{note}</List.Item>
            ))}
          </List>
        </Text>
      )}
      {plan.models.map((model) => (
        <Model key={model.model} model={model} promised_s={promisedOf(asked, model.model)} />
      ))}
    </Stack>
  );
}

function promisedOf(asked: Body, name: string): number {
  const model = asked.traffic.models.find((one) => one.name === name);
  return (model?.slo as { tpot_s?: number } | undefined)?.tpot_s ?? 0;
}

function Row({ model }: { model: ModelPlan }) {
  const { shapes, confirmed } = model;
  const each = (what: (shape: Shape) => ReactNode) =>
    shapes.length === 0
      ? "–"
      : shapes.map((shape) => (
          <div key={`${shape.device_model} ${shape.shape}`}>{what(shape)}</div>
        ));
  const held = shapes.reduce((sum, shape) => sum + shape.rate, 0);
  return (
    <Table.Tr>
      <Table.Td>
        {model.model} <TimesFrom of={model} />
      </Table.Td>
      <Table.Td>
        {each((shape) => (
          <>
            {shape.family} {shape.shape}
            <Text size="xs" c="dimmed">
              {shapeWords(shape.shape)}, {shape.engine}
            </Text>
          </>
        ))}
      </Table.Td>
      <Table.Td style={{ whiteSpace: "nowrap" }}>
        {each((shape) => `${shape.devices} ${shape.device_model}`)}
      </Table.Td>
      <Table.Td ta="right">
        {short(held)} / {short(model.requests_per_s)}
      </Table.Td>
      <Table.Td ta="right" c={servedTone(model)}>
        {percent(model.served)}
      </Table.Td>
      <Table.Td ta="right">
        {confirmed === null ? (
          "–"
        ) : (
          <>
            {percent(confirmed.share)}
            <Text size="xs" c="dimmed">
              TTFT {seconds(confirmed.ttft_p95_s)}, TPOT {seconds(confirmed.tpot_p95_s)} (p95)
            </Text>
          </>
        )}
      </Table.Td>
      <Table.Td>{model.why}</Table.Td>
    </Table.Tr>
  );
}

function TimesFrom({ of }: { of: ModelPlan }) {
  if (!of.is_estimate) {
    if (!of.shapes.some((shape) => shape.times === "measured here")) return null;
    return (
      <Text size="xs" c="dimmed">
        by times measured here
      </Text>
    );
  }
  return (
    <>
      <Badge size="xs" variant="outline" color="orange" tt="none">
        estimate
      </Badge>
      <Text size="xs" c="dimmed">
        by the times of {of.measured_as}
      </Text>
    </>
  );
}

/** One model: the way to the editor, what the alternatives would take, what a faster answer costs. */
function Model({ model, promised_s }: { model: ModelPlan; promised_s: number }) {
  const navigate = useNavigate();
  const models = useModels();
  const { spec } = model;
  const isThere = models.data?.some((one) => one.name === model.model) ?? false;
  return (
    <Paper withBorder p="sm" component="section" aria-label={model.model}>
      <Stack gap="sm">
        <Group justify="space-between">
          <Title order={3} fz="md">
            {model.model}
          </Title>
          {spec !== null && (
            <ChangeButton
              size="xs"
              loading={models.isPending}
              onClick={() => {
                const state: Handed = { recommended: spec };
                const name = encodeURIComponent(model.model);
                void navigate(isThere ? `/models/${name}/edit` : "/new", { state });
              }}
            >
              {isThere ? `Change ${model.model} to this …` : `Make ${model.model} like this …`}
            </ChangeButton>
          )}
        </Group>
        <Alternatives model={model} />
        <Frontier model={model} promised_s={promised_s} />
      </Stack>
    </Paper>
  );
}

/** The devices that serve all of the model's traffic alone, by family and kind of device. */
function Alternatives({ model }: { model: ModelPlan }) {
  const most = Math.max(1, ...model.alternatives.map((one) => one.shape?.devices ?? 0));
  return (
    <div>
      <Text size="sm" fw={600}>
        Devices to serve all of it alone
      </Text>
      <ul className="planner-bars">
        {model.alternatives.map(({ family, device_model, shape }) => {
          const chosen = chosenOf(model, family, device_model);
          return (
            <li key={`${family} ${device_model}`}>
              <Text size="sm">
                {family} on {device_model}:{" "}
                {shape === null ? "no shape does" : `${shape.devices}, as ${shape.shape}`}
                {chosen !== undefined &&
                  ` (recommended${chosen.shape === shape?.shape ? "" : ` as ${chosen.shape}`})`}
              </Text>
              {shape !== null && (
                <div
                  className="planner-bar"
                  data-chosen={chosen !== undefined || undefined}
                  style={{ width: `${(100 * shape.devices) / most}%` }}
                />
              )}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function Frontier({ model, promised_s }: { model: ModelPlan; promised_s: number }) {
  const { frontier } = model;
  const { times, values } = useMemo(() => curves(frontier), [frontier]);
  const at = useMemo(() => times.map((time) => time * 1000), [times]);
  const lines = useMemo(
    () =>
      FAMILIES.map((family, index) => ({
        label: family,
        colour: LINES[index] ?? LINES[0],
        values: values[family],
      })),
    [values],
  );
  if (at.length === 0) return null;
  // It is drawn for the kind of device that does most of the work.
  const most = Math.max(...model.shapes.map((shape) => shape.rate));
  const home = model.shapes.find((shape) => shape.rate === most);
  const where = home === undefined ? "" : ` on ${home.device_model}`;
  return (
    <>
      <Chart
        title={`What a faster answer costs${where}: answered tokens/s per device.`}
        summary={frontierWords(frontier, promised_s)}
        at={at}
        across={{
          label: "time per token, ms",
          format: short,
          mark: { at: promised_s * 1000, label: `promised: ${ms(promised_s)}` },
        }}
        lines={lines}
        format={short}
        height={240}
      />
      <details>
        <summary>
          <Text size="sm" span>
            The same in numbers
          </Text>
        </summary>
        <Table fz="sm" verticalSpacing={4} aria-label={`Tokens/s per device of ${model.model}`}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>Within</Table.Th>
              {FAMILIES.map((family) => (
                <Table.Th key={family}>{family}</Table.Th>
              ))}
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {times.map((time, row) => (
              <Table.Tr key={time}>
                <Table.Td>{ms(time)}</Table.Td>
                {FAMILIES.map((family) => {
                  const value = values[family][row] ?? null;
                  const point = pointAt(frontier, family, time);
                  return (
                    <Table.Td key={family}>
                      {value === null ? "–" : `${short(value)} (${point?.shape ?? ""})`}
                    </Table.Td>
                  );
                })}
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </details>
    </>
  );
}
