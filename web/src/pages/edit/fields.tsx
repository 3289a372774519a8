import { Autocomplete, NumberInput, Select, Switch, TextInput } from "@mantine/core";
import { createContext, useContext, useState } from "react";

import { fieldOf, type Path, valueAt } from "./document";

/** What the form's fields read and write: the YAML text's spec, and what the API says is wrong. */
export type Form = {
  spec: Readonly<Record<string, unknown>>;
  put: (path: Path, value: unknown) => void;
  /** The field that is wrong, as the API names it, and why. */
  wrong: { field: string; message: string } | null;
};

const FormContext = createContext<Form | null>(null);
export const FormProvider = FormContext.Provider;

export function useForm(): Form {
  const form = useContext(FormContext);
  if (form === null) throw new Error("a field outside of the form");
  return form;
}

function useField(path: Path) {
  const { spec, put, wrong } = useForm();
  const field = fieldOf(path);
  return {
    value: valueAt(spec, path),
    set: (value: unknown) => {
      put(path, value);
    },
    error: wrong?.field === field ? wrong.message : undefined,
  };
}

type Common = { path: Path; label: string; about?: string };

/** A text; emptied, its field is taken out of the YAML. */
export function TextField({
  path,
  label,
  about,
  placeholder,
  known,
  readOnly,
}: Common & {
  placeholder?: string;
  /** Values that are known to be there; others are fine. */
  known?: readonly string[];
  readOnly?: boolean;
}) {
  const { value, set, error } = useField(path);
  const shared = {
    label,
    description: about,
    error,
    placeholder,
    readOnly,
    value: typeof value === "string" || typeof value === "number" ? String(value) : "",
    size: "xs" as const,
  };
  const put = (text: string) => {
    set(text === "" ? undefined : text);
  };
  if (known !== undefined) {
    return <Autocomplete {...shared} data={[...new Set(known)]} limit={20} onChange={put} />;
  }
  return (
    <TextInput
      {...shared}
      onChange={(event) => {
        put(event.currentTarget.value);
      }}
    />
  );
}

/** A number; emptied, the default counts, which is shown in its place. */
export function NumberField({
  path,
  label,
  about,
  usual,
  whole = true,
}: Common & { usual?: number | string; whole?: boolean }) {
  const { value, set, error } = useField(path);
  // What is being typed may be no number yet ("0."): the YAML has the last one that was.
  const [typing, setTyping] = useState<string | number | null>(null);
  return (
    <NumberInput
      label={label}
      description={about}
      error={error}
      size="xs"
      placeholder={usual === undefined ? undefined : String(usual)}
      allowDecimal={!whole}
      value={typing ?? (typeof value === "number" ? value : "")}
      onChange={(next) => {
        setTyping(next);
        if (next === "") set(undefined);
        else if (Number.isFinite(Number(next))) set(Number(next));
      }}
      onBlur={() => {
        setTyping(null);
      }}
    />
  );
}

/** One of a few; the usual one is left out of the YAML. */
export function ChoiceField({
  path,
  label,
  about,
  options,
  usual,
  onChoose,
}: Common & {
  options: readonly string[];
  usual?: string;
  /** Instead of writing the value. */
  onChoose?: (value: string) => void;
}) {
  const { value, set, error } = useField(path);
  const chosen = typeof value === "string" ? value : (usual ?? null);
  return (
    <Select
      label={label}
      description={about}
      error={error}
      size="xs"
      allowDeselect={false}
      data={[...options]}
      value={chosen !== null && options.includes(chosen) ? chosen : null}
      onChange={(next) => {
        if (next === null) return;
        if (onChoose !== undefined) onChoose(next);
        else set(next === usual ? undefined : next);
      }}
    />
  );
}

/** Whether a part of the spec is there; switched on it begins with *begin*. */
export function PartSwitch({ path, label, about, begin }: Common & { begin: unknown }) {
  const { value, set, error } = useField(path);
  return (
    <Switch
      label={label}
      description={about}
      error={error}
      size="xs"
      checked={value !== undefined}
      onChange={(event) => {
        set(event.currentTarget.checked ? begin : undefined);
      }}
    />
  );
}

/** On or off; the usual one is left out of the YAML. */
export function FlagField({ path, label, about, usual }: Common & { usual: boolean }) {
  const { value, set, error } = useField(path);
  return (
    <Switch
      label={label}
      description={about}
      error={error}
      size="xs"
      checked={typeof value === "boolean" ? value : usual}
      onChange={(event) => {
        const next = event.currentTarget.checked;
        set(next === usual ? undefined : next);
      }}
    />
  );
}
