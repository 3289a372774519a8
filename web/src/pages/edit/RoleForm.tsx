import {
  ActionIcon,
  Button,
  Fieldset,
  Group,
  SimpleGrid,
  Stack,
  Text,
  TextInput,
} from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { useState } from "react";

import { shown } from "../../parts/changes";
import { fieldOf, type Path, typed, valueAt } from "./document";
import { NumberField, PartSwitch, TextField, useForm } from "./fields";

/** What each worker of a role gets, and how many there are. */
export function RoleForm({ path, title }: { path: Path; title: string }) {
  const { spec } = useForm();
  const at = (...more: Path) => [...path, ...more];
  const scales = valueAt(spec, at("autoscale")) !== undefined;
  const workers = valueAt(spec, at("workers"));
  const most = Math.max(2, typeof workers === "number" ? workers : 1);
  return (
    <Fieldset legend={title} p="sm">
      <Stack gap="xs">
        <SimpleGrid cols={{ base: 2, md: 4 }} spacing="xs" style={{ alignItems: "end" }}>
          <NumberField
            path={at("workers")}
            label={scales ? "Workers to begin with" : "Workers"}
            usual={1}
          />
          <NumberField path={at("devices")} label="Devices each" usual={1} />
          <TextField path={at("memory")} label="Memory each" placeholder="whole device" />
          <NumberField path={at("tensor_parallel")} label="Tensor parallel" usual={1} />
          <NumberField path={at("min_available")} label="At least ready" usual={0} />
          <NumberField path={at("max_surge")} label="Surge" usual="as fits" />
          <NumberField path={at("max_unavailable")} label="Unavailable" usual={1} />
          <NumberField path={at("pipeline_parallel")} label="Pipeline parallel" usual={1} />
        </SimpleGrid>
        <PartSwitch
          path={at("autoscale")}
          label="Autoscale"
          about="The number of workers follows the load."
          begin={{ workers_min: 1, workers_max: most }}
        />
        {scales && (
          <SimpleGrid cols={{ base: 2, md: 5 }} spacing="xs" style={{ alignItems: "end" }}>
            <NumberField path={at("autoscale", "workers_min")} label="At least" usual={1} />
            <NumberField path={at("autoscale", "workers_max")} label="At most" />
            <NumberField
              path={at("autoscale", "queued_prompt_tokens_max")}
              label="Queued tokens"
              usual={8192}
            />
            <NumberField
              path={at("autoscale", "kv_usage_max")}
              label="KV usage"
              usual={0.8}
              whole={false}
            />
            <NumberField
              path={at("autoscale", "stable_s")}
              label="Stable, s"
              usual={300}
              whole={false}
            />
          </SimpleGrid>
        )}
        <Flags path={at("args")} />
      </Stack>
    </Fieldset>
  );
}

/** Further flags of the engine, by their names without dashes. */
function Flags({ path }: { path: Path }) {
  const { spec, put, wrong } = useForm();
  const [name, setName] = useState("");
  const given = valueAt(spec, path);
  const flags = typeof given === "object" && given !== null ? Object.entries(given) : [];
  const add = () => {
    if (name.trim() === "") return;
    put([...path, name.trim().replace(/^--/, "")], true);
    setName("");
  };
  return (
    <Stack gap={4}>
      <Text size="xs" fw={500}>
        Engine flags
      </Text>
      {flags.map(([flag, value]) => (
        <Group key={flag} gap={6} wrap="nowrap">
          <Text className="mono wrap" w={200}>
            {flag}
          </Text>
          <TextInput
            size="xs"
            aria-label={`Value of ${flag}`}
            style={{ flex: 1 }}
            value={typeof value === "string" ? value : shown(value)}
            error={wrong?.field === fieldOf([...path, flag]) ? wrong.message : undefined}
            onChange={(event) => {
              put([...path, flag], typed(event.currentTarget.value));
            }}
          />
          <ActionIcon
            variant="default"
            aria-label={`Take ${flag} away`}
            onClick={() => {
              put([...path, flag], undefined);
            }}
          >
            <IconX size={14} aria-hidden />
          </ActionIcon>
        </Group>
      ))}
      <Group gap={6}>
        <TextInput
          size="xs"
          aria-label="Name of a flag to add"
          placeholder="max-model-len"
          value={name}
          onChange={(event) => {
            setName(event.currentTarget.value);
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter") add();
          }}
        />
        <Button size="xs" variant="default" onClick={add}>
          Add flag
        </Button>
      </Group>
    </Stack>
  );
}
