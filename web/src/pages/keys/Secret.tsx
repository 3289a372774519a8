import { Alert, Button, Code, CopyButton, Group, NumberInput, Text } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, data, type Schemas } from "../../api/client";
import { FormDialog } from "../../parts/FormDialog";

const DAY_S = 86_400;

/** A new secret, the one time that it can be seen. */
export function Secret({ of, onClose }: { of: Schemas["NewKeyView"]; onClose: () => void }) {
  return (
    <Alert
      color="green"
      title={`The secret of ${of.key.name}: it is not shown again`}
      withCloseButton
      closeButtonLabel="I have it"
      onClose={onClose}
      role="status"
    >
      <Group>
        <Code className="mono">{of.secret}</Code>
        <CopyButton value={of.secret}>
          {({ copied, copy }) => (
            <Button size="xs" variant="default" onClick={copy}>
              {copied ? "Copied" : "Copy"}
            </Button>
          )}
        </CopyButton>
      </Group>
    </Alert>
  );
}

/** Asks for how long the old secret goes on working beside the new one. */
export function Rotate({
  of,
  onClose,
  onRotated,
}: {
  of: Schemas["KeyView"];
  onClose: () => void;
  onRotated: (key: Schemas["NewKeyView"]) => void;
}) {
  const client = useQueryClient();
  const [days, setDays] = useState<number | string>(1);
  const rotating = useMutation({
    mutationFn: () =>
      data(
        api.POST("/admin/v1/keys/{key_id}/rotate", {
          params: { path: { key_id: of.id } },
          body: { overlap_s: Number(days) * DAY_S },
        }),
      ),
    onSuccess: async (key) => {
      onRotated(key);
      onClose();
      await client.invalidateQueries({ queryKey: ["keys"] });
    },
  });
  return (
    <FormDialog
      title={`Rotate ${of.name}`}
      centered
      submit="Rotate"
      leave="Keep as it is"
      failed="It was not rotated"
      saving={rotating}
      onClose={onClose}
    >
      <Text>A new secret is made. The present one works on for so long, then no more.</Text>
      <NumberInput
        label="Days that both work"
        min={0}
        max={90}
        value={days}
        onChange={setDays}
        data-autofocus
      />
    </FormDialog>
  );
}
