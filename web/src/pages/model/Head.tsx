import { Alert, List, Stack, Text } from "@mantine/core";
import { IconAlertTriangle, IconInfoCircle } from "@tabler/icons-react";

import type { Schemas } from "../../api/client";
import { useOverview } from "../../api/queries";
import { Advice } from "../../parts/Advice";
import { type Trouble, troubles } from "./troubles";

/** What is wrong with the model and what to do about it, before anything else. */
export function Head({ model }: { model: Schemas["ModelView"] }) {
  const problems = useOverview().data?.problems ?? [];
  const found = troubles(model, problems);
  if (found.length === 0 && model.warnings.length === 0) return null;
  return (
    <Stack gap="xs">
      {found.map((trouble) => (
        <TroubleAlert key={trouble.sentence} of={trouble} model={model.name} />
      ))}
      {model.warnings.map((warning) => (
        <Alert key={warning} color="yellow" p="xs" icon={<IconInfoCircle aria-hidden />}>
          {warning}
        </Alert>
      ))}
    </Stack>
  );
}

const COLOURS = { error: "red", warning: "yellow", info: "blue" } as const;

function TroubleAlert({ of, model }: { of: Trouble; model: string }) {
  return (
    <Alert
      color={COLOURS[of.severity]}
      p="xs"
      icon={<IconAlertTriangle aria-hidden />}
      title={
        // In the colours of some alerts a sentence would be hard to read.
        <Text inherit c="var(--mantine-color-text)" className="wrap">
          {of.sentence}
        </Text>
      }
    >
      {of.what.length === 1 ? (
        <Text size="sm" className="wrap">
          <Advice of={of.what[0] ?? ""} model={model} />
        </Text>
      ) : (
        of.what.length > 1 && (
          <List size="sm" spacing={2}>
            {of.what.map((line) => (
              <List.Item key={line} className="wrap">
                <Advice of={line} model={model} />
              </List.Item>
            ))}
          </List>
        )
      )}
    </Alert>
  );
}
