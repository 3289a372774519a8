import { Box, Button, Code, CopyButton, Group, Paper, Select, Stack, Text } from "@mantine/core";
import { useEffect, useRef, useState } from "react";
import { Link } from "react-router";

import { useSession } from "../../app/session";
import { Problem } from "../../parts/Problem";
import { count, seconds } from "../../parts/quantities";
import { ask, type Served } from "./ask";
import { bodyOf, type Message, type Parameters } from "./body";
import { asCurl, asPython, inferenceUrl } from "./code";
import type { Chunk } from "./sse";
import { NOT_YET, tick, type Timing, tpotS, ttftS } from "./timing";

/** How the newest answer came. */
type Told = { served: Served | null; timing: Timing; usage: Chunk["usage"]; finish: string | null };

const NOTHING: Told = { served: null, timing: NOT_YET, usage: null, finish: null };

/** A conversation with one model. What is *said* is answered once, by its number. */
export function Pane({
  label,
  names,
  first,
  system,
  parameters,
  said,
}: {
  label: string;
  names: readonly string[];
  first: string | null;
  system: string;
  parameters: Parameters;
  said: { number: number; text: string };
}) {
  const [model, setModel] = useState(first);
  const [messages, setMessages] = useState<readonly Message[]>([]);
  const [told, setTold] = useState(NOTHING);
  const [failed, setFailed] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const [code, setCode] = useState<"curl" | "python" | null>(null);
  const running = useRef<AbortController | null>(null);
  const answered = useRef(said.number);

  const withSystem = (talk: readonly Message[]): readonly Message[] =>
    system.trim() === "" ? talk : [{ role: "system", content: system }, ...talk];

  const answer = async (text: string) => {
    if (model === null) return;
    running.current?.abort();
    const mine = new AbortController();
    running.current = mine;
    const talk: readonly Message[] = [
      ...messages.filter((message) => message.content !== ""),
      { role: "user", content: text },
    ];
    setMessages([...talk, { role: "assistant", content: "" }]);
    setTold(NOTHING);
    setFailed(null);
    setBusy(true);
    const started = performance.now();
    let words = "";
    try {
      await ask(
        bodyOf(model, withSystem(talk), parameters),
        mine.signal,
        (served) => {
          setTold((now) => ({ ...now, served }));
        },
        (chunk) => {
          const at_ms = performance.now() - started;
          words += chunk.text;
          if (chunk.text !== "") setMessages([...talk, { role: "assistant", content: words }]);
          setTold((now) => ({
            ...now,
            timing: chunk.text === "" ? now.timing : tick(now.timing, at_ms),
            usage: chunk.usage ?? now.usage,
            finish: chunk.finish ?? now.finish,
          }));
        },
      );
    } catch (error) {
      if (!mine.signal.aborted) setFailed(error);
    } finally {
      if (running.current === mine) setBusy(false);
    }
  };
  const answering = useRef(answer);
  useEffect(() => {
    answering.current = answer;
  });

  useEffect(() => {
    if (said.number === answered.current) return;
    answered.current = said.number;
    if (said.number > 0) void answering.current(said.text);
  }, [said]);
  useEffect(() => () => running.current?.abort(), []);

  // Pieces may hold several tokens: the engine's own count is the better one.
  const timing =
    told.usage === null ? told.timing : { ...told.timing, tokens: told.usage.completion_tokens };
  const url = inferenceUrl(useSession(), window.location);
  const body = bodyOf(
    model ?? "MODEL",
    withSystem(messages.filter((m) => m.content !== "")),
    parameters,
  );
  return (
    <Paper withBorder p="sm" component="section" aria-label={label}>
      <Stack gap="sm">
        <Group justify="space-between" wrap="nowrap" align="flex-end">
          <Select
            label="Model"
            searchable
            allowDeselect={false}
            data={names}
            value={model}
            onChange={setModel}
            flex={1}
            nothingFoundMessage="No such model"
          />
          {busy && (
            <Button
              size="xs"
              variant="default"
              onClick={() => {
                running.current?.abort();
                setBusy(false);
              }}
            >
              Stop
            </Button>
          )}
        </Group>
        <Stack
          gap="xs"
          mih={160}
          mah="50vh"
          style={{ overflowY: "auto" }}
          role="log"
          aria-label={`${label}: what was said`}
          aria-busy={busy}
          tabIndex={0}
        >
          {messages.length === 0 && <Text c="dimmed">Nothing has been said yet.</Text>}
          {messages.map((message, index) => (
            <Box key={index}>
              <Text size="xs" c="dimmed">
                {message.role === "user" ? "You" : (model ?? "")}
              </Text>
              <Text className="wrap">{message.content || (busy ? "…" : "")}</Text>
            </Box>
          ))}
        </Stack>
        {failed !== null && <Problem error={failed} title="No answer" />}
        {told.served !== null && <HowItCame told={told} timing={timing} model={model ?? ""} />}
        <Group gap="xs">
          {(["curl", "python"] as const).map((kind) => (
            <Button
              key={kind}
              size="compact-xs"
              variant={code === kind ? "light" : "default"}
              aria-expanded={code === kind}
              onClick={() => {
                setCode(code === kind ? null : kind);
              }}
            >
              {kind === "curl" ? "As curl" : "As Python"}
            </Button>
          ))}
        </Group>
        {code !== null && (
          <CodeBox text={code === "curl" ? asCurl(body, url) : asPython(body, url)} />
        )}
      </Stack>
    </Paper>
  );
}

function HowItCame({ told, timing, model }: { told: Told; timing: Timing; model: string }) {
  const { served, usage, finish } = told;
  return (
    <Text size="sm" className="num" role="status">
      TTFT {seconds(ttftS(timing))} · TPOT {seconds(tpotS(timing))}
      {usage !== null &&
        ` · ${count(usage.prompt_tokens)} prompt and ${count(usage.completion_tokens)} answer tokens`}
      {finish !== null && finish !== "stop" && ` · ended by ${finish}`}
      <br />
      {served?.from !== undefined && served.from !== "" && `in place of ${served.from}, `}
      {served?.mode}, variant {served?.variant}, revision {served?.revision}:{" "}
      <Link to={`/models/${model}?tab=workers`}>{served?.workers}</Link>
    </Text>
  );
}

function CodeBox({ text }: { text: string }) {
  return (
    <Box>
      <Code block>{text}</Code>
      <CopyButton value={text}>
        {({ copied, copy }) => (
          <Button size="compact-xs" variant="default" mt={4} onClick={copy}>
            {copied ? "Copied" : "Copy"}
          </Button>
        )}
      </CopyButton>
    </Box>
  );
}
