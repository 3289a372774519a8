import { Group, MultiSelect, NumberInput, Select, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, data, type Schemas } from "../../api/client";
import { ApiError } from "../../api/errors";
import { useModels } from "../../api/queries";
import { FormDialog } from "../../parts/FormDialog";
import { bodyOf, formOf, NO_LIMITS } from "./limits";

const DAY_S = 86_400;

/** A new key, or what may be changed of one. */
export function KeyForm({
  of,
  onClose,
  onMade,
}: {
  of?: Schemas["KeyView"];
  onClose: () => void;
  onMade: (key: Schemas["NewKeyView"]) => void;
}) {
  const client = useQueryClient();
  const models = useModels();
  const [name, setName] = useState(of?.name ?? "");
  const [kind, setKind] = useState<Schemas["KeyKind"]>(of?.kind ?? "inference");
  const [role, setRole] = useState<Schemas["AccessRole"]>(of?.role ?? "viewer");
  const [allowed, setAllowed] = useState<string[]>([...(of?.models ?? [])]);
  const [priority, setPriority] = useState<Schemas["Priority"]>(of?.priority ?? "normal");
  const [limits, setLimits] = useState(of === undefined ? NO_LIMITS : formOf(of.limits));
  const [days, setDays] = useState<number | string>("");
  const saving = useMutation({
    mutationFn: async () => {
      const common = { name, models: allowed, priority, limits: bodyOf(limits) };
      if (of !== undefined) {
        await api.PATCH("/admin/v1/keys/{key_id}", {
          params: { path: { key_id: of.id } },
          body: kind === "inference" ? common : { name },
        });
        return;
      }
      const made = kind === "inference" ? common : { name, role };
      const expires = days === "" ? {} : { expires_in_s: Number(days) * DAY_S };
      onMade(await data(api.POST("/admin/v1/keys", { body: { ...made, kind, ...expires } })));
    },
    onSuccess: async () => {
      onClose();
      await client.invalidateQueries({ queryKey: ["keys"] });
    },
  });
  const failed = saving.error instanceof ApiError ? saving.error : null;
  const wrong = (field: string) => (failed?.field === field ? failed.message : undefined);
  const limit = (
    field: "requests_per_minute" | "tokens_per_minute" | "in_flight" | "budget_amount",
  ) => ({
    value: limits[field],
    onChange: (value: number | string) => {
      setLimits({ ...limits, [field]: value === "" ? "" : Number(value) });
    },
    min: 0,
    placeholder: "no limit",
    error: wrong(`limits.${field.replace("budget_amount", "budget.amount")}`),
  });
  return (
    <FormDialog
      title={of === undefined ? "New key" : `Change ${of.name}`}
      size="lg"
      submit={of === undefined ? "Make the key" : "Save"}
      failed="It was not saved"
      saving={saving}
      onClose={onClose}
    >
      <Group grow align="flex-start">
        <TextInput
          label="Name"
          required
          maxLength={64}
          data-autofocus
          value={name}
          error={wrong("name")}
          onChange={(event) => {
            setName(event.currentTarget.value);
          }}
        />
        <Select
          label="What it opens"
          description={of === undefined ? "They are separate." : "It stays what it is."}
          allowDeselect={false}
          disabled={of !== undefined}
          data={[
            { value: "inference", label: "the inference API" },
            { value: "admin", label: "the admin API and this console" },
          ]}
          value={kind}
          onChange={(value) => {
            setKind(value as Schemas["KeyKind"]);
          }}
        />
      </Group>
      {kind === "admin" && (
        <Select
          label="Role"
          description={of === undefined ? undefined : "It stays what it is."}
          allowDeselect={false}
          disabled={of !== undefined}
          data={[
            { value: "viewer", label: "viewer: looks" },
            { value: "admin", label: "admin: does everything" },
          ]}
          value={role}
          error={wrong("role")}
          onChange={(value) => {
            setRole(value as Schemas["AccessRole"]);
          }}
        />
      )}
      {kind === "inference" && (
        <>
          <MultiSelect
            label="Models"
            description="None: all of them."
            searchable
            data={(models.data ?? []).map((model) => model.name)}
            value={allowed}
            error={wrong("models")}
            onChange={setAllowed}
          />
          <Select
            label="Priority in a queue"
            allowDeselect={false}
            data={["high", "normal", "low"]}
            value={priority}
            onChange={(value) => {
              setPriority(value as Schemas["Priority"]);
            }}
          />
          <Group grow>
            <NumberInput label="Requests a minute" {...limit("requests_per_minute")} />
            <NumberInput label="Tokens a minute" {...limit("tokens_per_minute")} />
            <NumberInput label="At once" {...limit("in_flight")} />
          </Group>
          <Group grow>
            <NumberInput label="Budget" decimalScale={9} {...limit("budget_amount")} />
            <Select
              label="For each"
              allowDeselect={false}
              data={["day", "month", "total"]}
              value={limits.budget_period}
              onChange={(value) => {
                setLimits({ ...limits, budget_period: value as Schemas["BudgetPeriod"] });
              }}
            />
          </Group>
        </>
      )}
      {of === undefined && (
        <NumberInput
          label="Days until it expires"
          placeholder="never"
          min={1}
          max={3650}
          value={days}
          error={wrong("expires_in_s")}
          onChange={setDays}
        />
      )}
    </FormDialog>
  );
}
