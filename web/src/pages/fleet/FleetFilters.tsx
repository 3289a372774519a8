import { Group, NumberInput, Select, TextInput } from "@mantine/core";
import { memo } from "react";

import type { Filter, Index } from "../../parts/fleet/fleet";

const STATES = ["ready", "cordoned", "draining", "unknown", "quarantine", "overuse"];
const GIB = 1024 ** 3;

export function FleetFilters({
  text,
  onTyped,
  ...others
}: {
  text: string;
  onTyped: (text: string) => void;
  filter: Filter;
  index: Index;
  onChange: (key: string, value: string) => void;
}) {
  return (
    <Group gap="xs" align="flex-end">
      <TextInput
        label="Search"
        size="xs"
        w={180}
        placeholder="node, device or worker"
        value={text}
        onChange={(event) => {
          onTyped(event.currentTarget.value);
        }}
      />
      <Choices {...others} />
    </Group>
  );
}

/** Apart, so that a struck key draws the field and not the choices among a thousand models. */
const Choices = memo(function Choices({
  filter,
  index,
  onChange,
}: {
  filter: Filter;
  index: Index;
  onChange: (key: string, value: string) => void;
}) {
  const choice = (label: string, key: string, value: string, data: readonly string[]) => (
    <Select
      label={label}
      size="xs"
      w={150}
      clearable
      searchable={data.length > 8}
      limit={100}
      placeholder="any"
      data={[...data]}
      value={value === "" ? null : value}
      onChange={(chosen) => {
        onChange(key, chosen ?? "");
      }}
    />
  );
  return (
    <>
      {choice("State", "state", filter.state, STATES)}
      {choice("Model", "model", filter.model, index.models)}
      {choice("Label", "label", filter.label, index.labels)}
      <NumberInput
        label="Free on a device, GiB"
        size="xs"
        w={150}
        min={0}
        placeholder="any"
        value={filter.freeBytes === 0 ? "" : filter.freeBytes / GIB}
        onChange={(value) => {
          onChange("free", value === 0 ? "" : String(value));
        }}
      />
    </>
  );
});
