import { Group, Switch, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import { api, data, type Schemas } from "../../api/client";
import { Action, ChangeButton } from "../../parts/Action";
import { Ago } from "../../parts/Ago";
import { Loaded, Page } from "../../parts/Page";
import { StateBadge } from "../../parts/StateBadge";
import { type Column, VirtualTable } from "../../parts/VirtualTable";
import { KeyForm } from "./KeyForm";
import { limitsText } from "./limits";
import { Rotate, Secret } from "./Secret";

type Key = Schemas["KeyView"];

export default function KeysPage() {
  const keys = useQuery({
    queryKey: ["keys"],
    queryFn: async () => (await data(api.GET("/admin/v1/keys"))).items,
    refetchInterval: 15_000,
  });
  const [gone, setGone] = useState(false);
  const [changed, setChanged] = useState<Key | null>(null);
  const [rotated, setRotated] = useState<Key | null>(null);
  const [secret, setSecret] = useState<Schemas["NewKeyView"] | null>(null);
  const [making, { open: make, close: made }] = useDisclosure(false);
  const columns: readonly Column<Key>[] = [
    { key: "name", title: "Name", width: "minmax(120px, 1.4fr)", render: (key) => key.name },
    {
      key: "id",
      title: "Id",
      width: "minmax(110px, 1fr)",
      render: (key) => <span className="mono">{key.id}</span>,
    },
    {
      key: "kind",
      title: "Opens",
      width: "110px",
      render: (key) => (key.role === null ? key.kind : `${key.kind} (${key.role})`),
    },
    {
      key: "state",
      title: "State",
      width: "90px",
      render: (key) => <StateBadge state={key.state} />,
    },
    {
      key: "models",
      title: "Models",
      width: "minmax(80px, 1.2fr)",
      render: (key) => {
        const models = key.models.join(", ") || "all";
        return <span title={models}>{models}</span>;
      },
    },
    {
      key: "limits",
      title: "Limits",
      width: "minmax(140px, 2fr)",
      render: (key) => <span title={limitsText(key)}>{limitsText(key)}</span>,
    },
    {
      key: "expires",
      title: "Expires",
      width: "100px",
      render: (key) => (key.expires_at === null ? "never" : key.expires_at.slice(0, 10)),
    },
    {
      key: "made",
      title: "Made",
      width: "90px",
      render: (key) => <Ago at={key.created_at} />,
    },
    {
      key: "actions",
      title: "Actions",
      width: "230px",
      render: (key) =>
        key.revoked_at !== null ? null : (
          <Group gap={4} wrap="nowrap">
            <ChangeButton
              size="compact-xs"
              variant="default"
              aria-label={`Change ${key.name}`}
              onClick={() => {
                setChanged(key);
              }}
            >
              Change
            </ChangeButton>
            <ChangeButton
              size="compact-xs"
              variant="default"
              aria-label={`Rotate ${key.name}`}
              onClick={() => {
                setRotated(key);
              }}
            >
              Rotate
            </ChangeButton>
            <Action
              size="compact-xs"
              color="red"
              label="Revoke"
              ask={
                <>
                  <b>{key.name}</b> ({key.id}) opens nothing any more, at once and for good.
                </>
              }
              done={`${key.name} is revoked.`}
              act={() =>
                api.DELETE("/admin/v1/keys/{key_id}", { params: { path: { key_id: key.id } } })
              }
            />
          </Group>
        ),
    },
  ];
  return (
    <Page
      title="Keys"
      actions={
        <ChangeButton size="xs" onClick={make}>
          New key
        </ChangeButton>
      }
    >
      {secret !== null && (
        <Secret
          of={secret}
          onClose={() => {
            setSecret(null);
          }}
        />
      )}
      <Loaded of={keys} what="the keys">
        {(all) => {
          const shown = all.filter(
            (key) => gone || key.state === "active" || key.revoked_at === null,
          );
          return (
            <>
              <Switch
                label={`Show the ${all.filter((key) => key.revoked_at !== null).length} revoked ones`}
                checked={gone}
                onChange={(event) => {
                  setGone(event.currentTarget.checked);
                }}
              />
              <VirtualTable
                label="Keys"
                columns={columns}
                rows={shown}
                rowKey={(key) => key.id}
                empty="No keys yet."
              />
            </>
          );
        }}
      </Loaded>
      <Text size="sm" c="dimmed">
        A key&apos;s secret is shown once, when it is made or rotated: only a digest is kept.
      </Text>
      {making && <KeyForm onClose={made} onMade={setSecret} />}
      {changed !== null && (
        <KeyForm
          of={changed}
          onClose={() => {
            setChanged(null);
          }}
          onMade={setSecret}
        />
      )}
      {rotated !== null && (
        <Rotate
          of={rotated}
          onClose={() => {
            setRotated(null);
          }}
          onRotated={setSecret}
        />
      )}
    </Page>
  );
}
