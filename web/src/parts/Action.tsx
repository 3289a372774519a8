import {
  Button,
  type ButtonProps,
  type ElementProps,
  Group,
  Modal,
  Stack,
  Text,
  Tooltip,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";

import { useDenied } from "../app/session";
import { Problem } from "./Problem";

/**
 * A button that changes something. With *ask* it asks first, in words that name the thing; a viewer
 * sees it disabled, with why. What failed is said where it was asked for.
 */
export function Action({
  label,
  act,
  done,
  ask,
  disabled,
  ...look
}: {
  label: string;
  act: () => Promise<unknown>;
  /** Said when it worked. */
  done: string;
  ask?: ReactNode;
  /** Why it cannot be done now. */
  disabled?: string | null;
} & Omit<ButtonProps, "disabled">) {
  const client = useQueryClient();
  const denied = useDenied();
  const [asking, { open, close }] = useDisclosure(false);
  // A page has many actions, and a dialog costs even while it is closed. Once open it stays, to fade.
  const [asked, setAsked] = useState(false);
  if (asking && !asked) setAsked(true);
  const doing = useMutation({
    mutationFn: act,
    onSuccess: async () => {
      close();
      notifications.show({ message: done, color: "green" });
      await client.invalidateQueries();
    },
    onError: () => {
      open();
    },
  });
  const why = denied ?? disabled ?? null;
  const start = () => {
    doing.reset();
    if (ask === undefined) doing.mutate();
    else open();
  };
  const button = (
    <Button
      size="xs"
      variant="default"
      {...look}
      loading={doing.isPending && !asking}
      // Not `disabled`: what has a reason must stay reachable, so that the reason can be read.
      aria-disabled={why !== null}
      data-disabled={why !== null || undefined}
      onClick={why === null ? start : undefined}
    >
      {label}
    </Button>
  );
  return (
    <>
      {why === null ? button : <Tooltip label={why}>{button}</Tooltip>}
      {asked && (
        <Modal
          opened={asking}
          onClose={close}
          title={label}
          centered
          size={typeof ask === "string" ? "md" : "xl"}
        >
          <Stack>
            {ask !== undefined && <Text component="div">{ask}</Text>}
            {doing.isError && <Problem error={doing.error} title="It was not done" />}
            <Group justify="flex-end">
              <Button variant="default" onClick={close} data-autofocus>
                {doing.isError ? "Close" : "Keep as it is"}
              </Button>
              <Button
                color={look.color ?? "blue"}
                loading={doing.isPending}
                onClick={() => {
                  doing.mutate();
                }}
              >
                {doing.isError ? "Try again" : label}
              </Button>
            </Group>
          </Stack>
        </Modal>
      )}
    </>
  );
}

/** A button that leads to a change, or sends one: a viewer sees it disabled, with why. */
export function ChangeButton(
  look: Omit<ButtonProps & ElementProps<"button">, "disabled" | "title">,
) {
  const denied = useDenied();
  return <Button {...look} disabled={denied !== null} title={denied ?? undefined} />;
}
