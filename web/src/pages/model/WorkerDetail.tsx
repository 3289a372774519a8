import { Alert, Drawer, Group, Stack, Text, Title } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";

import type { Schemas } from "../../api/client";
import { Ago } from "../../parts/Ago";
import { count, percent } from "../../parts/quantities";
import { StateBadge } from "../../parts/StateBadge";
import { Facts } from "../../parts/VirtualTable";
import { LogView } from "./log/LogView";
import { phaseWord, workerName } from "./pipeline/layout";

type Worker = Schemas["WorkerView"];

/** A worker beside the page: what it is, how it does, what it writes. */
export function WorkerDetail({
  id,
  worker,
  close,
}: {
  id: string | null;
  /** Undefined where the model has it no more. */
  worker: Worker | undefined;
  close: () => void;
}) {
  return (
    <Drawer
      opened={id !== null}
      onClose={close}
      position="right"
      size="min(900px, 100%)"
      title={
        <Group gap="sm">
          <Title order={2}>
            {worker === undefined ? "A worker that is gone" : workerName(worker)}
          </Title>
          {worker !== undefined && <StateBadge state={phaseWord(worker)} />}
        </Group>
      }
      closeButtonProps={{ "aria-label": "Close" }}
    >
      {id !== null && (
        <Stack gap="sm">
          {worker === undefined ? (
            <Text c="dimmed">
              {id} has ended and left the model. Its log is here as long as it is kept.
            </Text>
          ) : (
            <About of={worker} />
          )}
          {worker?.engine === "openai" || worker?.node === "external" ? (
            <Text c="dimmed">It runs elsewhere: its log is there.</Text>
          ) : (
            <LogView worker={id} height="calc(100vh - 440px)" />
          )}
        </Stack>
      )}
    </Drawer>
  );
}

function About({ of }: { of: Worker }) {
  const { metrics } = of;
  const load =
    metrics === null
      ? "not counted: it is not ready, or does not answer"
      : `${metrics.requests_running} running, ${metrics.requests_waiting} waiting, KV cache ${percent(metrics.kv_cache_usage)} full`;
  return (
    <>
      {of.reason !== "" && (
        <Alert
          color={of.phase === "ready" ? "yellow" : "red"}
          icon={<IconAlertTriangle aria-hidden />}
          p="xs"
        >
          <span className="wrap">{of.reason}</span>
        </Alert>
      )}
      <Facts
        of={[
          ["Worker", <span className="mono">{of.id}</span>],
          ["Variant", `${of.variant}, ${of.role}, revision ${of.revision}`],
          ["Node", of.node],
          ["Devices", of.devices.join(", ") || "none"],
          ["Address", <span className="mono">{of.address || "none yet"}</span>],
          ["Engine", of.runtime === "" ? of.engine : `${of.engine} (${of.runtime})`],
          ["Load", load],
          ["Tokens so far", tokens(of)],
          [
            "Since",
            <>
              placed <Ago at={of.created_at} />, ready <Ago at={of.ready_at} />, {restarts(of)}
            </>,
          ],
        ]}
      />
    </>
  );
}

function tokens({ metrics }: Worker): string {
  if (metrics === null) return "–";
  const kv = metrics.kv_transfers + metrics.kv_transfer_failures;
  const transfers =
    kv === 0
      ? ""
      : `, ${count(metrics.kv_transfers)} KV transfers, ${count(metrics.kv_transfer_failures)} failed`;
  return `${count(metrics.prompt_tokens)} in, ${count(metrics.generation_tokens)} out${transfers}`;
}

function restarts({ restarts }: Worker): string {
  if (restarts === 0) return "its slot never ended by itself";
  return `its slot ended by itself ${restarts === 1 ? "once" : `${restarts} times`}`;
}
