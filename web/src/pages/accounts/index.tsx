import { Group, PasswordInput, Select, Text, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, data, type Schemas } from "../../api/client";
import { Action, ChangeButton } from "../../parts/Action";
import { Ago } from "../../parts/Ago";
import { Loaded, Page } from "../../parts/Page";
import { FormDialog } from "../../parts/FormDialog";
import { type Column, VirtualTable } from "../../parts/VirtualTable";

type Account = Schemas["AccountView"];

export default function AccountsPage() {
  const accounts = useQuery({
    queryKey: ["accounts"],
    queryFn: async () => (await data(api.GET("/admin/v1/accounts"))).items,
  });
  const [making, { open: make, close: made }] = useDisclosure(false);
  const [changed, setChanged] = useState<Account | null>(null);
  const columns: readonly Column<Account>[] = [
    { key: "name", title: "Name", width: "2fr", render: (account) => account.name },
    { key: "role", title: "Role", width: "1fr", render: (account) => account.role },
    {
      key: "made",
      title: "Made",
      width: "1fr",
      render: (account) => <Ago at={account.created_at} />,
    },
    {
      key: "set",
      title: "Password set",
      width: "1fr",
      render: (account) => <Ago at={account.updated_at} />,
    },
    {
      key: "actions",
      title: "Actions",
      width: "220px",
      render: (account) => (
        <Group gap={4} wrap="nowrap">
          <ChangeButton
            size="compact-xs"
            variant="default"
            aria-label={`New password for ${account.name}`}
            onClick={() => {
              setChanged(account);
            }}
          >
            New password
          </ChangeButton>
          <Action
            size="compact-xs"
            color="red"
            label="Delete"
            ask={
              <>
                <b>{account.name}</b> cannot sign in any more, and is signed out everywhere.
              </>
            }
            done={`${account.name} is deleted.`}
            act={() =>
              api.DELETE("/admin/v1/accounts/{name}", { params: { path: { name: account.name } } })
            }
          />
        </Group>
      ),
    },
  ];
  return (
    <Page
      title="Accounts"
      actions={
        <ChangeButton size="xs" onClick={make}>
          New account
        </ChangeButton>
      }
    >
      <Text size="sm" c="dimmed">
        Who may use this console: viewers look, admins do everything. Admin keys sign in as well.
      </Text>
      <Loaded of={accounts} what="the accounts">
        {(all) => (
          <VirtualTable
            label="Accounts"
            columns={columns}
            rows={all}
            rowKey={(account) => account.name}
            empty="No accounts yet: people sign in with admin keys."
          />
        )}
      </Loaded>
      {making && <AccountForm onClose={made} />}
      {changed !== null && (
        <AccountForm
          of={changed}
          onClose={() => {
            setChanged(null);
          }}
        />
      )}
    </Page>
  );
}

/** A new account, or a new password *of* one. */
function AccountForm({ of, onClose }: { of?: Account; onClose: () => void }) {
  const client = useQueryClient();
  const [name, setName] = useState(of?.name ?? "");
  const [role, setRole] = useState<Account["role"]>(of?.role ?? "viewer");
  const [password, setPassword] = useState("");
  const saving = useMutation({
    mutationFn: () =>
      of === undefined
        ? data(api.POST("/admin/v1/accounts", { body: { name, role, password } }))
        : data(
            api.PUT("/admin/v1/accounts/{name}/password", {
              params: { path: { name } },
              body: { password },
            }),
          ),
    onSuccess: async () => {
      onClose();
      await client.invalidateQueries({ queryKey: ["accounts"] });
    },
  });
  return (
    <FormDialog
      title={of === undefined ? "New account" : `New password for ${of.name}`}
      centered
      submit={of === undefined ? "Make the account" : "Set the password"}
      failed="It was not saved"
      saving={saving}
      onClose={onClose}
    >
      {of === undefined ? (
        <>
          <TextInput
            label="Name"
            required
            autoComplete="off"
            data-autofocus
            value={name}
            onChange={(event) => {
              setName(event.currentTarget.value);
            }}
          />
          <Select
            label="Role"
            allowDeselect={false}
            data={[
              { value: "viewer", label: "viewer: looks" },
              { value: "admin", label: "admin: does everything" },
            ]}
            value={role}
            onChange={(value) => {
              setRole(value as Account["role"]);
            }}
          />
        </>
      ) : (
        <Text>It is signed out everywhere.</Text>
      )}
      <PasswordInput
        label="Password"
        required
        autoComplete="new-password"
        value={password}
        onChange={(event) => {
          setPassword(event.currentTarget.value);
        }}
      />
    </FormDialog>
  );
}
