import {
  ActionIcon,
  Button,
  Checkbox,
  Fieldset,
  Group,
  NumberInput,
  Select,
  SimpleGrid,
  Stack,
  TextInput,
  Title,
} from "@mantine/core";
import { IconTrash } from "@tabler/icons-react";
import { type ReactNode, useState } from "react";

import {
  type Asked,
  ENGINES,
  type ModelRow,
  newModel,
  newNodes,
  type NodeRow,
  type Objective,
  OBJECTIVES,
  type Place,
  RARE,
  type Typed,
} from "./asked";

/** What is wrong, at the field where it is. */
export type Wrong = Place & { message: string };

const NUMBERS: Record<string, { label: string; step: number; whole?: boolean }> = {
  requests_per_s: { label: "Requests/s", step: 1 },
  prompt_tokens: { label: "Prompt tokens", step: 100 },
  answer_tokens: { label: "Answer tokens", step: 50 },
  ttft_s: { label: "TTFT, s", step: 0.1 },
  tpot_s: { label: "TPOT, s", step: 0.005 },
  weight: { label: "Weight", step: 1 },
  share: { label: "Within SLO, share", step: 0.01 },
  length_cv: { label: "Lengths vary by", step: 0.1 },
  headroom: { label: "Headroom, part", step: 0.1 },
  count: { label: "Nodes", step: 1, whole: true },
  devices: { label: "Devices each", step: 1, whole: true },
  island: { label: "Devices an island", step: 1, whole: true },
  fabric_gbit_s: { label: "Gbit/s a device", step: 50 },
  cost: { label: "Cost of a device", step: 0.1 },
};

const OFTEN_NUMBERS = [
  ...["requests_per_s", "prompt_tokens", "answer_tokens"],
  ...["ttft_s", "tpot_s", "weight"],
] as const;

/** The traffic of each model and what its users are promised; the nodes by kind. */
export function Form({
  asked,
  onChange,
  wrong,
}: {
  asked: Asked;
  onChange: (asked: Asked) => void;
  wrong: Wrong | null;
}) {
  /** What a row's fields need: to write into it, and what is wrong there. */
  const fields = (of: Place["of"], index: number): Fields => ({
    put: (field, value) => {
      const rows = asked[of].map((row, at) => (at === index ? { ...row, [field]: value } : row));
      onChange({ ...asked, [of]: rows });
    },
    error: (field) =>
      wrong?.of === of && wrong.row === index && wrong.field === field ? wrong.message : undefined,
  });
  const without = (of: Place["of"], id: number) => () => {
    onChange({ ...asked, [of]: asked[of].filter((row) => row.id !== id) });
  };
  return (
    <>
      <Title order={2}>Models and their traffic</Title>
      {asked.models.map((row, index) => (
        <ModelFields
          key={row.id}
          number={index + 1}
          row={row}
          fields={fields("models", index)}
          onRemove={asked.models.length > 1 ? without("models", row.id) : null}
        />
      ))}
      <Group>
        <Button
          size="xs"
          variant="default"
          onClick={() => {
            onChange({ ...asked, models: [...asked.models, newModel(asked.models)] });
          }}
        >
          Add a model
        </Button>
      </Group>
      <Title order={2}>Fleet</Title>
      {asked.nodes.map((row, index) => (
        <NodeFields
          key={row.id}
          number={index + 1}
          row={row}
          fields={fields("nodes", index)}
          onRemove={asked.nodes.length > 1 ? without("nodes", row.id) : null}
        />
      ))}
      <Group>
        <Button
          size="xs"
          variant="default"
          onClick={() => {
            onChange({ ...asked, nodes: [...asked.nodes, newNodes(asked.nodes)] });
          }}
        >
          Add a kind of node
        </Button>
      </Group>
      <Select<Objective>
        size="xs"
        label="Traffic to serve"
        allowDeselect={false}
        data={OBJECTIVES}
        value={asked.objective}
        onChange={(objective) => {
          if (objective !== null) onChange({ ...asked, objective });
        }}
      />
    </>
  );
}

type Fields = {
  put: (field: string, value: unknown) => void;
  error: (field: string) => string | undefined;
};

function Numbers({
  of,
  values,
  fields,
}: {
  of: readonly string[];
  values: Readonly<Record<string, unknown>>;
  fields: Fields;
}) {
  return of.map((field) => {
    const { label, step, whole = false } = NUMBERS[field] ?? { label: field, step: 1 };
    return (
      <NumberInput
        key={field}
        size="xs"
        label={label}
        min={0}
        step={step}
        allowDecimal={!whole}
        value={values[field] as Typed}
        onChange={(value) => {
          fields.put(field, value);
        }}
        error={fields.error(field)}
      />
    );
  });
}

function TextField({
  label,
  field,
  value,
  placeholder,
  fields,
}: {
  label: string;
  field: string;
  value: string;
  placeholder?: string;
  fields: Fields;
}) {
  return (
    <TextInput
      size="xs"
      label={label}
      placeholder={placeholder}
      value={value}
      onChange={(event) => {
        fields.put(field, event.currentTarget.value);
      }}
      error={fields.error(field)}
    />
  );
}

function ModelFields({
  number,
  row,
  fields,
  onRemove,
}: {
  number: number;
  row: ModelRow;
  fields: Fields;
  onRemove: (() => void) | null;
}) {
  return (
    <Row what="model" name={row.name || `Model ${number}`} fields={fields} onRemove={onRemove}>
      {(isMore) => (
        <>
          <TextField label="Name" field="name" value={row.name} fields={fields} />
          <TextField
            label="Source"
            field="source"
            value={row.source}
            placeholder="hf://org/name"
            fields={fields}
          />
          <SimpleGrid cols={3} spacing="xs">
            <Numbers of={OFTEN_NUMBERS} values={row} fields={fields} />
          </SimpleGrid>
          {isMore && (
            <>
              <SimpleGrid cols={3} spacing="xs">
                <Numbers of={["share", "length_cv", "headroom"]} values={row} fields={fields} />
              </SimpleGrid>
              <Checkbox.Group
                size="xs"
                label="Engines"
                value={[...row.engines]}
                onChange={(engines) => {
                  fields.put("engines", engines);
                }}
                error={fields.error("engines")}
              >
                <Group gap="md">
                  {ENGINES.map((engine) => (
                    <Checkbox key={engine} size="xs" value={engine} label={engine} />
                  ))}
                </Group>
              </Checkbox.Group>
              <TextField
                label="Measured as"
                field="measured_as"
                value={row.measured_as}
                placeholder="the model that is named by its source"
                fields={fields}
              />
            </>
          )}
        </>
      )}
    </Row>
  );
}

function NodeFields({
  number,
  row,
  fields,
  onRemove,
}: {
  number: number;
  row: NodeRow;
  fields: Fields;
  onRemove: (() => void) | null;
}) {
  return (
    <Row
      what="kind of node"
      name={row.device_model || `Kind ${number}`}
      fields={fields}
      onRemove={onRemove}
    >
      {(isMore) => (
        <>
          <SimpleGrid cols={3} spacing="xs">
            <TextField
              label="Device model"
              field="device_model"
              value={row.device_model}
              placeholder="H100"
              fields={fields}
            />
            <Numbers of={["count", "devices"]} values={row} fields={fields} />
          </SimpleGrid>
          {isMore && (
            <SimpleGrid cols={3} spacing="xs">
              <Numbers of={["island", "fabric_gbit_s", "cost"]} values={row} fields={fields} />
            </SimpleGrid>
          )}
        </>
      )}
    </Row>
  );
}

/** A row's fields; those that are seldom needed on demand, or where one of them is wrong. */
function Row({
  what,
  name,
  fields,
  onRemove,
  children,
}: {
  what: string;
  name: string;
  fields: Fields;
  onRemove: (() => void) | null;
  children: (isMore: boolean) => ReactNode;
}) {
  const [asked, setAsked] = useState(false);
  const isMore = asked || RARE.some((field) => fields.error(field) !== undefined);
  return (
    <Fieldset legend={name} p="xs">
      <Stack gap={6}>
        {children(isMore)}
        <Group justify="space-between">
          <Button
            size="compact-xs"
            variant="subtle"
            aria-expanded={isMore}
            onClick={() => {
              setAsked(!isMore);
            }}
          >
            {isMore ? "Less" : "More"}
          </Button>
          {onRemove !== null && (
            <ActionIcon
              size="sm"
              variant="subtle"
              color="gray"
              aria-label={`Remove ${what} ${name}`}
              onClick={onRemove}
            >
              <IconTrash size={14} aria-hidden />
            </ActionIcon>
          )}
        </Group>
      </Stack>
    </Fieldset>
  );
}
