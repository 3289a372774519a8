import { Group, Loader, Stack, Title } from "@mantine/core";
import type { UseQueryResult } from "@tanstack/react-query";
import { type ReactNode, useEffect } from "react";

import { Problem } from "./Problem";

/** A page's frame: its title (the window's as well), what it can do, and its content. */
export function Page({
  title,
  beside,
  actions,
  children,
}: {
  title: string;
  /** Beside the title: a state. */
  beside?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}) {
  useEffect(() => {
    document.title = `${title} · Modelyard`;
  }, [title]);
  return (
    <Stack gap="md">
      <Group justify="space-between" mih={36}>
        <Group gap="sm">
          <Title order={1}>{title}</Title>
          {beside}
        </Group>
        {actions !== undefined && <Group gap="xs">{actions}</Group>}
      </Group>
      {children}
    </Stack>
  );
}

/** What was asked for, or that it is on its way, or why there is none. */
export function Loaded<T>({
  of,
  what,
  children,
}: {
  of: UseQueryResult<T>;
  /** What is loaded, as in "the models". */
  what: string;
  children: (value: T) => ReactNode;
}) {
  if (of.data !== undefined) return <>{children(of.data)}</>;
  if (of.isError) return <Problem error={of.error} title={`Could not load ${what}`} />;
  return <Loader role="status" aria-label={`Loading ${what}`} size="sm" m="md" />;
}
