import {
  ActionIcon,
  AppShell,
  Burger,
  Button,
  Group,
  NavLink,
  ScrollArea,
  Text,
  useComputedColorScheme,
  useMantineColorScheme,
} from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import {
  IconActivity,
  IconBox,
  IconCalculator,
  IconChartBar,
  IconHistory,
  IconKey,
  IconListDetails,
  IconMessage,
  IconMoon,
  IconServer,
  IconSun,
  IconUsers,
} from "@tabler/icons-react";
import { NavLink as RouteLink, Outlet, useLocation } from "react-router";

import { useLiveState } from "../api/live";
import { useSession, useSignOut } from "./session";

const PAGES = [
  { to: "/", label: "Overview", icon: IconActivity },
  { to: "/models", label: "Models", icon: IconBox },
  { to: "/fleet", label: "Fleet", icon: IconServer },
  { to: "/planner", label: "Planner", icon: IconCalculator },
  { to: "/playground", label: "Playground", icon: IconMessage },
  { to: "/keys", label: "Keys", icon: IconKey },
  { to: "/usage", label: "Usage", icon: IconChartBar },
  { to: "/events", label: "Events", icon: IconListDetails },
  { to: "/audit", label: "Audit", icon: IconHistory },
  { to: "/accounts", label: "Accounts", icon: IconUsers },
] as const;

const LIVE = {
  live: { word: "live", colour: "green" },
  connecting: { word: "connecting …", colour: "yellow" },
  paused: { word: "not followed", colour: "dimmed" },
} as const;

export function Shell() {
  const [opened, { toggle, close }] = useDisclosure(false);
  const { pathname } = useLocation();
  const session = useSession();
  const signOut = useSignOut();
  const live = LIVE[useLiveState()];
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light") === "dark";
  return (
    <AppShell
      header={{ height: 48 }}
      navbar={{ width: 190, breakpoint: "sm", collapsed: { mobile: !opened } }}
      padding="md"
    >
      <a className="skip" href="#main">
        Skip to the content
      </a>
      <AppShell.Header px="md">
        <Group h="100%" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger
              opened={opened}
              onClick={toggle}
              hiddenFrom="sm"
              size="sm"
              aria-label="Navigation"
            />
            <Text fw={700}>Modelyard</Text>
          </Group>
          <Group gap="sm" wrap="nowrap">
            <Text size="sm" c={live.colour} role="status" visibleFrom="sm">
              {live.word}
            </Text>
            <Text size="sm" c="dimmed" visibleFrom="sm">
              {session.actor} ({session.role})
            </Text>
            <ActionIcon
              variant="default"
              aria-label={dark ? "Light colours" : "Dark colours"}
              onClick={() => {
                setColorScheme(dark ? "light" : "dark");
              }}
            >
              {dark ? <IconSun size={16} /> : <IconMoon size={16} />}
            </ActionIcon>
            <Button size="xs" variant="default" onClick={() => void signOut()}>
              Sign out
            </Button>
          </Group>
        </Group>
      </AppShell.Header>
      <AppShell.Navbar p="xs" component="nav" aria-label="Pages">
        <ScrollArea>
          {PAGES.map(({ to, label, icon: Icon }) => {
            const active = to === "/" ? pathname === "/" : pathname.startsWith(to);
            return (
              <NavLink
                key={to}
                component={RouteLink}
                to={to}
                label={label}
                leftSection={<Icon size={16} aria-hidden />}
                active={active}
                aria-current={active ? "page" : undefined}
                onClick={close}
              />
            );
          })}
        </ScrollArea>
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1}>
        <Outlet />
      </AppShell.Main>
    </AppShell>
  );
}
