import { Button, Group, NumberInput, Paper, SimpleGrid, Textarea } from "@mantine/core";
import { useState } from "react";

import { useModels } from "../../api/queries";
import { useDenied } from "../../app/session";
import { ChangeButton } from "../../parts/Action";
import { Loaded, Page } from "../../parts/Page";
import type { Parameters } from "./body";
import { Pane } from "./Pane";

const PARAMETERS: Parameters = { temperature: "", top_p: "", max_tokens: 256, seed: "" };

export default function PlaygroundPage() {
  const models = useModels();
  const denied = useDenied();
  const [panes, setPanes] = useState(1);
  const [system, setSystem] = useState("");
  const [parameters, setParameters] = useState(PARAMETERS);
  const [text, setText] = useState("");
  /** What was last said to every pane; its number makes the same words anew. */
  const [said, setSaid] = useState({ number: 0, text: "" });
  const [epoch, setEpoch] = useState(0);
  const say = () => {
    if (text.trim() === "" || denied !== null) return;
    setSaid({ number: said.number + 1, text: text.trim() });
    setText("");
  };
  const field = (label: string, name: keyof Parameters, step: number) => (
    <NumberInput
      label={label}
      size="xs"
      min={0}
      step={step}
      placeholder="the model's"
      value={parameters[name]}
      onChange={(value) => {
        setParameters({ ...parameters, [name]: value === "" ? "" : Number(value) });
      }}
    />
  );
  return (
    <Page
      title="Playground"
      actions={
        <>
          <Button
            size="xs"
            variant="default"
            onClick={() => {
              setPanes(panes === 1 ? 2 : 1);
            }}
          >
            {panes === 1 ? "Two side by side" : "One alone"}
          </Button>
          <Button
            size="xs"
            variant="default"
            onClick={() => {
              setSaid({ number: 0, text: "" });
              setEpoch(epoch + 1);
            }}
          >
            Start anew
          </Button>
        </>
      }
    >
      <Loaded of={models} what="the models">
        {(all) => {
          const names = all
            .filter((model) => model.state !== "deleting")
            .map((model) => model.name);
          return (
            <>
              <Paper withBorder p="sm">
                <SimpleGrid cols={{ base: 2, md: 4 }} spacing="sm">
                  {field("Temperature", "temperature", 0.1)}
                  {field("Top p", "top_p", 0.05)}
                  {field("Tokens at most", "max_tokens", 16)}
                  {field("Seed", "seed", 1)}
                </SimpleGrid>
                <Textarea
                  label="System prompt"
                  size="xs"
                  mt="xs"
                  autosize
                  minRows={1}
                  maxRows={6}
                  value={system}
                  onChange={(event) => {
                    setSystem(event.currentTarget.value);
                  }}
                />
              </Paper>
              <SimpleGrid cols={{ base: 1, md: panes }} spacing="sm">
                {Array.from({ length: panes }, (_, index) => (
                  <Pane
                    key={`${epoch} ${index}`}
                    label={panes === 1 ? "Conversation" : `Conversation ${index + 1}`}
                    names={names}
                    first={names[Math.min(index, names.length - 1)] ?? null}
                    system={system}
                    parameters={parameters}
                    said={said}
                  />
                ))}
              </SimpleGrid>
              <form
                onSubmit={(event) => {
                  event.preventDefault();
                  say();
                }}
              >
                <Group align="flex-end" wrap="nowrap">
                  <Textarea
                    label="Say"
                    description="Enter sends, Shift+Enter makes a new line."
                    flex={1}
                    autosize
                    minRows={2}
                    maxRows={8}
                    value={text}
                    onChange={(event) => {
                      setText(event.currentTarget.value);
                    }}
                    onKeyDown={(event) => {
                      if (
                        event.key === "Enter" &&
                        !event.shiftKey &&
                        !event.nativeEvent.isComposing
                      ) {
                        event.preventDefault();
                        say();
                      }
                    }}
                  />
                  <ChangeButton type="submit">Send</ChangeButton>
                </Group>
              </form>
            </>
          );
        }}
      </Loaded>
    </Page>
  );
}
