import { Button, Group, Modal, Select, Stack, Text } from "@mantine/core";
import { useState } from "react";

import { api, data } from "../../api/client";
import { sentence } from "../../api/errors";
import { useModels } from "../../api/queries";
import { copyOf, STARTS } from "./starts";

/** What a new model begins with. What was written meanwhile is not lost without a word. */
export function BeginWith({ dirty, onBegin }: { dirty: boolean; onBegin: (text: string) => void }) {
  const models = useModels();
  const [asked, setAsked] = useState<string | null>(null);
  const [failure, setFailure] = useState("");
  const start = (text: string) => {
    if (dirty) setAsked(text);
    else onBegin(text);
  };
  const copy = async (name: string) => {
    setFailure("");
    try {
      const params = { params: { path: { name } } };
      const { spec } = await data(api.GET("/admin/v1/models/{name}", params));
      start(copyOf(spec));
    } catch (error) {
      setFailure(sentence(error));
    }
  };
  return (
    <Group gap="xs">
      <Text size="sm">Begin with</Text>
      {STARTS.map((one) => (
        <Button
          key={one.key}
          size="xs"
          variant="default"
          onClick={() => {
            start(one.text);
          }}
        >
          {one.label}
        </Button>
      ))}
      <Select
        size="xs"
        w={220}
        aria-label="A copy of a model"
        placeholder="a copy of …"
        searchable
        limit={100}
        data={(models.data ?? []).map((model) => model.name)}
        value={null}
        onChange={(name) => {
          if (name !== null) void copy(name);
        }}
        error={failure === "" ? undefined : failure}
      />
      <Modal
        opened={asked !== null}
        onClose={() => {
          setAsked(null);
        }}
        title="Begin anew"
        centered
      >
        <Stack>
          <Text>What you have written is replaced.</Text>
          <Group justify="flex-end">
            <Button
              variant="default"
              data-autofocus
              onClick={() => {
                setAsked(null);
              }}
            >
              Keep it
            </Button>
            <Button
              color="orange"
              onClick={() => {
                if (asked !== null) onBegin(asked);
                setAsked(null);
              }}
            >
              Begin anew
            </Button>
          </Group>
        </Stack>
      </Modal>
    </Group>
  );
}
