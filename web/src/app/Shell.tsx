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
import { useMemo } from "react";
import { NavLink as RouteLink, Outlet, useLocation } from "react-router";

import { useFollowing } from "../api/following";
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

const FOLLOWING = {
  live: { word: "live", colour: "green", why: "What happens is shown as it happens." },
  refreshed: { word: "refreshed", colour: "green", why: "This page asks anew every few seconds." },
  connecting: { word: "connecting …", colour: "yellow", why: "What is shown may be old." },
  silent: { word: "no answer …", colour: "yellow", why: "What is shown may be old." },
  paused: { word: "as loaded", colour: "dimmed", why: "This page shows what was when it loaded." },
} as const;

export function Shell() {
  const [opened, { toggle, close }] = useDisclosure(false);
  const session = useSession();
  const signOut = useSignOut();
  const following = FOLLOWING[useFollowing()];
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
            <Text
              size="sm"
              c={following.colour}
              role="status"
              title={following.why}
              visibleFrom="sm"
            >
              {following.word}
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
        <Pages onGo={close} />
      </AppShell.Navbar>
      <AppShell.Main id="main" tabIndex={-1}>
        <Outlet />
      </AppShell.Main>
    </AppShell>
  );
}

/** Apart, as it alone changes with the address. */
function Pages({ onGo }: { onGo: () => void }) {
  const { pathname } = useLocation();
  return useMemo(
    () => (
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
              onClick={onGo}
            />
          );
        })}
      </ScrollArea>
    ),
    [pathname, onGo],
  );
}
