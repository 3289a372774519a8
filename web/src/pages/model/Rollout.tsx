import { Group, Stack, Stepper, Table, Text } from "@mantine/core";

import type { Schemas } from "../../api/client";
import { Ago } from "../../parts/Ago";
import { Loaded } from "../../parts/Page";
import { seconds } from "../../parts/quantities";
import { StateBadge } from "../../parts/StateBadge";
import { useRollout } from "./queries";
import { isUnderWay, measures, stepsOf } from "./rollout";

/** The newest rollout: its steps, and how both revisions do. */
export function RolloutSteps({ model }: { model: Schemas["ModelView"] }) {
  return model.rollout === null ? <NoRollout /> : <Newest name={model.name} />;
}

function NoRollout() {
  return (
    <Text c="dimmed">
      There has been no rollout. A change that touches workers begins one, by the steps of the
      spec's rollout.canary.
    </Text>
  );
}

function Newest({ name }: { name: string }) {
  const rollout = useRollout(name);
  return (
    <Loaded of={rollout} what="the rollout">
      {(of) => <Told of={of} />}
    </Loaded>
  );
}

function Told({ of }: { of: Schemas["RolloutView"] }) {
  const steps = stepsOf(of);
  const now = steps.findIndex((step) => step.state === "now");
  const done = steps.filter((step) => step.state === "done").length;
  return (
    <Stack>
      <Group gap="sm">
        <Text fw={600}>
          Revision {of.from_revision} → {of.to_revision}
        </Text>
        <StateBadge state={of.state} />
        <Text size="sm" c="dimmed">
          begun <Ago at={of.created_at} />
          {of.ended_at === null ? (
            <>
              , this step <Ago at={of.step_at} />
            </>
          ) : (
            <>
              , ended <Ago at={of.ended_at} />
            </>
          )}
        </Text>
      </Group>
      {of.reason !== "" && <Text className="wrap">{of.reason}</Text>}
      <Stepper
        active={now >= 0 ? now : done}
        size="xs"
        aria-label="Steps"
        allowNextStepsSelect={false}
      >
        {steps.map((step, index) => (
          <Stepper.Step
            key={index}
            label={step.label}
            description={step.state}
            loading={step.state === "now" && of.state === "progressing"}
            aria-current={step.state === "now" ? "step" : undefined}
          />
        ))}
      </Stepper>
      <Text size="sm" c="dimmed">
        {pace(of)}
      </Text>
      <Table.ScrollContainer minWidth={560}>
        <Table verticalSpacing={4}>
          <Table.Thead>
            <Table.Tr>
              <Table.Th>
                {isUnderWay(of.state) ? "Since the step began" : "In its last step"}
              </Table.Th>
              <Table.Th>Revision {of.old.revision} (old)</Table.Th>
              <Table.Th>Revision {of.new.revision} (new)</Table.Th>
              <Table.Th>The gate allows the new one</Table.Th>
            </Table.Tr>
          </Table.Thead>
          <Table.Tbody>
            {measures(of).map((measure) => (
              <Table.Tr key={measure.name}>
                <Table.Th fw={500}>{measure.name}</Table.Th>
                <Table.Td>{measure.old}</Table.Td>
                <Table.Td>{measure.new}</Table.Td>
                <Table.Td c="dimmed">{measure.allowed || "–"}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      </Table.ScrollContainer>
    </Stack>
  );
}

function pace(of: Schemas["RolloutView"]): string {
  const pause = of.pause_s > 0 ? `Each step takes ${seconds(of.pause_s)} at least. ` : "";
  const next =
    of.promote === "manual" ? "From step to step it waits for Resume." : "It goes on by itself.";
  const gate =
    of.gate === null
      ? " No gate watches the new revision."
      : ` A gate watches each step for ${seconds(of.gate.watch_s)}.`;
  return `${pause}${next}${gate}`;
}
