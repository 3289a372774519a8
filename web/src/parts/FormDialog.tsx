import { Button, Group, Modal, Stack } from "@mantine/core";
import type { UseMutationResult } from "@tanstack/react-query";
import type { ReactNode } from "react";

import { Problem } from "./Problem";

/** A form that asks for what a change needs; what failed is said in it, and nothing is lost. */
export function FormDialog({
  title,
  submit,
  leave = "Cancel",
  failed,
  size,
  centered = false,
  saving,
  onClose,
  children,
}: {
  title: string;
  submit: string;
  /** On the button that changes nothing. */
  leave?: string;
  /** The title of what went wrong. */
  failed: string;
  size?: string;
  centered?: boolean;
  saving: UseMutationResult<unknown, Error, void>;
  onClose: () => void;
  children: ReactNode;
}) {
  return (
    <Modal opened onClose={onClose} title={title} centered={centered} {...(size && { size })}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          saving.mutate();
        }}
      >
        <Stack>
          {children}
          {saving.isError && <Problem error={saving.error} title={failed} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              {leave}
            </Button>
            <Button type="submit" loading={saving.isPending}>
              {submit}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
