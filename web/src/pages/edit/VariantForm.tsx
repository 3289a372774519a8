import { ActionIcon, Button, Fieldset, Group, SimpleGrid, Stack } from "@mantine/core";
import { IconX } from "@tabler/icons-react";

import { useNodes } from "../../api/queries";
import { type Path, valueAt } from "./document";
import { ChoiceField, NumberField, TextField, useForm } from "./fields";
import { RoleForm } from "./RoleForm";

const ENGINES = ["vllm", "sglang", "openai", "emulator"];
const TOPOLOGIES = ["aggregated", "disaggregated", "external"];

export function VariantForm({
  index,
  onReshape,
}: {
  index: number;
  onReshape: (path: Path, type: string) => void;
}) {
  const { spec, put } = useForm();
  const nodes = useNodes();
  const path = ["variants", index];
  const at = (...more: Path) => [...path, ...more];
  const name = valueAt(spec, at("name"));
  const type = valueAt(spec, at("topology", "type"));
  const variants = valueAt(spec, ["variants"]);
  const alone = !Array.isArray(variants) || variants.length < 2;
  return (
    <Fieldset legend={`Variant ${typeof name === "string" ? name : "default"}`} p="sm">
      <Stack gap="xs">
        <SimpleGrid cols={{ base: 2, md: 4 }} spacing="xs" style={{ alignItems: "end" }}>
          <TextField path={at("name")} label="Name" placeholder="default" />
          <ChoiceField path={at("engine")} label="Engine" options={ENGINES} />
          <TextField
            path={at("runtime")}
            label="Runtime"
            placeholder="the engine's default"
            known={(nodes.data ?? []).flatMap((node) => node.runtimes)}
          />
          <NumberField path={at("weight")} label="Weight" usual={100} />
          <ChoiceField
            path={at("topology", "type")}
            label="Topology"
            options={TOPOLOGIES}
            onChoose={(next) => {
              onReshape(path, next);
            }}
          />
          {type === "disaggregated" && (
            <>
              <ChoiceField
                path={at("topology", "transfer")}
                label="Transfer of KV"
                options={["auto", "nixl", "mooncake"]}
                usual="auto"
              />
              <ChoiceField
                path={at("topology", "locality")}
                label="Locality"
                options={["prefer", "fabric", "node"]}
                usual="prefer"
              />
              <NumberField
                path={at("topology", "bypass", "max_prompt_tokens")}
                label="Bypass, tokens"
                usual={0}
              />
            </>
          )}
          {type !== "external" && (
            <TextField
              path={at("placement", "device_model")}
              label="Device model"
              placeholder="any"
              known={(nodes.data ?? []).flatMap((node) => node.devices.map((one) => one.model))}
            />
          )}
        </SimpleGrid>
        {type === "aggregated" && (
          <RoleForm path={at("topology")} title="Workers, each for both phases" />
        )}
        {type === "disaggregated" && (
          <>
            <RoleForm path={at("topology", "prefill")} title="Prefill" />
            <RoleForm path={at("topology", "decode")} title="Decode" />
          </>
        )}
        {type === "external" && <ExternalForm path={at("topology")} />}
        {!alone && (
          <Group justify="flex-end">
            <Button
              size="xs"
              variant="default"
              onClick={() => {
                put(path, undefined);
              }}
            >
              Take this variant away
            </Button>
          </Group>
        )}
      </Stack>
    </Fieldset>
  );
}

/** Where workers are that somebody else runs. */
function ExternalForm({ path }: { path: Path }) {
  const at = (...more: Path) => [...path, ...more];
  return (
    <Stack gap="xs">
      <SimpleGrid cols={2} spacing="xs" style={{ alignItems: "end" }}>
        <TextField path={at("served_name")} label="The model's name there" placeholder="the same" />
        <TextField path={at("token_file")} label="File with their key" placeholder="none" />
      </SimpleGrid>
      {(["workers", "prefill", "decode"] as const).map((role) => (
        <Addresses key={role} path={at(role)} role={role} />
      ))}
    </Stack>
  );
}

const ROLES = { workers: "Workers for both phases", prefill: "Prefill", decode: "Decode" } as const;

function Addresses({ path, role }: { path: Path; role: keyof typeof ROLES }) {
  const { spec, put } = useForm();
  const given = valueAt(spec, path);
  const count = Array.isArray(given) ? given.length : 0;
  const all: readonly unknown[] = Array.isArray(given) ? given : [];
  return (
    <Fieldset legend={ROLES[role]} p="xs">
      <Stack gap={4}>
        {Array.from({ length: count }, (_, index) => (
          <Group key={index} gap={6} wrap="nowrap" align="flex-end">
            <div style={{ flex: 1 }}>
              <TextField path={[...path, index, "url"]} label={`Address ${index + 1}`} />
            </div>
            {role === "prefill" && (
              <NumberField path={[...path, index, "bootstrap_port"]} label="Bootstrap port" />
            )}
            <ActionIcon
              variant="default"
              size={30}
              aria-label={`Take address ${index + 1} of ${ROLES[role]} away`}
              onClick={() => {
                const rest = all.filter((_one, other) => other !== index);
                put(rest.length === 0 ? path : [...path, index], undefined);
              }}
            >
              <IconX size={14} aria-hidden />
            </ActionIcon>
          </Group>
        ))}
        <Group>
          <Button
            size="xs"
            variant="default"
            onClick={() => {
              put([...path, count], { url: "http://" });
            }}
          >
            Add an address
          </Button>
        </Group>
      </Stack>
    </Fieldset>
  );
}
