import {
  Button,
  Center,
  Paper,
  PasswordInput,
  SegmentedControl,
  Stack,
  Text,
  TextInput,
  Title,
} from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { type SyntheticEvent, useState } from "react";

import { api, data, setCsrf } from "../api/client";
import { Problem } from "../parts/Problem";

type Way = "key" | "account";

export function SignIn() {
  const client = useQueryClient();
  const [way, setWay] = useState<Way>("key");
  const [account, setAccount] = useState("");
  const [secret, setSecret] = useState("");
  const signIn = useMutation({
    mutationFn: () => {
      const body = way === "key" ? { key: secret.trim() } : { account, password: secret };
      return data(api.POST("/admin/v1/session", { body }));
    },
    onSuccess: (session) => {
      setSecret("");
      setCsrf(session.csrf);
      client.setQueryData(["session"], session);
    },
  });
  const submit = (event: SyntheticEvent) => {
    event.preventDefault();
    signIn.mutate();
  };
  return (
    <Center component="main" mih="100vh" p="md">
      <Paper withBorder p="xl" w={420} maw="100%">
        <form onSubmit={submit}>
          <Stack>
            <Title order={1}>Modelyard</Title>
            <SegmentedControl
              aria-label="How to sign in"
              value={way}
              onChange={(value) => {
                setWay(value);
                setSecret("");
                signIn.reset();
              }}
              data={[
                { value: "key", label: "With a key" },
                { value: "account", label: "With an account" },
              ]}
            />
            {way === "account" && (
              <TextInput
                label="Account"
                autoComplete="username"
                required
                value={account}
                onChange={(event) => {
                  setAccount(event.currentTarget.value);
                }}
              />
            )}
            <PasswordInput
              label={way === "key" ? "Admin key" : "Password"}
              autoComplete={way === "key" ? "off" : "current-password"}
              required
              value={secret}
              onChange={(event) => {
                setSecret(event.currentTarget.value);
              }}
            />
            {signIn.isError && <Problem error={signIn.error} title="You are not signed in" />}
            <Button type="submit" loading={signIn.isPending}>
              Sign in
            </Button>
            <Text size="sm" c="dimmed">
              {way === "key"
                ? "The key of this machine is in the file admin.token of Modelyard's home (~/.modelyard). More are made by `modelyard keys create --kind admin`."
                : "Accounts are made by `modelyard accounts create NAME`."}
            </Text>
          </Stack>
        </form>
      </Paper>
    </Center>
  );
}
