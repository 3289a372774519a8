import { Group, NumberInput, Text } from "@mantine/core";
import { useState } from "react";

import { api, data, type Schemas } from "../../../api/client";
import { useDenied } from "../../../app/session";
import { Action } from "../../../parts/Action";
import { Planned } from "../Planned";
import { roleLabel, type ScaleWish, wishOf } from "./scaling";

const WORKERS_MAX = 1024;

/** How many workers of each role there shall be, to change in place. */
export function Scale({ model }: { model: Schemas["ModelView"] }) {
  const variants = model.variants.filter(
    (variant) => variant.topology === "aggregated" || variant.topology === "disaggregated",
  );
  return (
    <Group gap="lg">
      {variants.map((variant) => (
        <VariantScale
          // A number that was typed and not sent gives way to one that somebody else made true.
          key={`${variant.name} ${variant.roles.map((count) => count.desired).join(" ")}`}
          model={model}
          variant={variant}
          named={variants.length > 1}
        />
      ))}
    </Group>
  );
}

function VariantScale({
  model,
  variant,
  named,
}: {
  model: Schemas["ModelView"];
  variant: Schemas["VariantView"];
  named: boolean;
}) {
  const denied = useDenied();
  const [typed, setTyped] = useState<Partial<Record<Schemas["Role"], number>>>({});
  const wish = wishOf(variant, typed);
  return (
    <Group gap="xs" role="group" aria-label={`Workers of ${variant.name}`} align="center">
      {named && (
        <Text size="sm" fw={600}>
          {variant.name}
        </Text>
      )}
      {variant.roles.map((count) => (
        <Group key={count.role} gap={6} wrap="nowrap">
          <Text size="sm" c="dimmed" title={count.autoscale?.reason}>
            {roleLabel(count)}
          </Text>
          <NumberInput
            size="xs"
            w={68}
            aria-label={`${roleLabel(count)} of ${variant.name}`}
            min={count.autoscale?.workers_min ?? 1}
            max={count.autoscale?.workers_max ?? WORKERS_MAX}
            allowDecimal={false}
            allowNegative={false}
            readOnly={denied !== null}
            value={typed[count.role] ?? count.desired}
            onChange={(value) => {
              if (typeof value === "number") setTyped({ ...typed, [count.role]: value });
            }}
          />
        </Group>
      ))}
      <Action
        label="Scale"
        act={() => scale(model, wish, false)}
        done={`${model.name} is scaled. Its workers follow.`}
        disabled={wish === null ? "Change a number first" : null}
        ask={
          wish === null ? undefined : (
            <Planned
              what={["scale", model.name, wish]}
              dry={() => scale(model, wish, true)}
              intro={`${model.name}: the workers of ${variant.name} become ${words(wish)}.`}
            />
          )
        }
      />
    </Group>
  );
}

function words({ workers, prefill, decode }: ScaleWish): string {
  if (workers !== undefined) return String(workers);
  const parts = [
    prefill === undefined ? "" : `${prefill} prefill`,
    decode === undefined ? "" : `${decode} decode`,
  ];
  return parts.filter((part) => part !== "").join(" and ");
}

async function scale(
  model: Schemas["ModelView"],
  wish: ScaleWish | null,
  dryRun: boolean,
): Promise<Schemas["AppliedView"]> {
  if (wish === null) throw new Error("There is nothing to change.");
  return data(
    api.PATCH("/admin/v1/models/{name}/scale", {
      params: {
        path: { name: model.name },
        query: { dry_run: dryRun },
        header: { "If-Match": `"${model.generation}"` },
      },
      body: wish,
    }),
  );
}
