import "./planner.css";

import { Box, Button, Group, List, Select, Stack, Text } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type SyntheticEvent, useEffect, useRef, useState } from "react";

import { api, data, type Schemas } from "../../api/client";
import { ApiError, sentence } from "../../api/errors";
import { Loaded, Page } from "../../parts/Page";
import { Problem } from "../../parts/Problem";
import { recommend } from "./ask";
import { type Asked, begun, bodyOf, type Body, placeOf } from "./asked";
import { Form, type Wrong } from "./Form";
import type { Plan } from "./plan";
import { Result } from "./Result";

type Live = Schemas["Live"];

/** What is on the page. It is kept while the tab is open, as plans lead to the editor and back. */
type Kept = { live: Live; asked: Asked; made: { plan: Plan; body: Body } | null };

const KEPT = ["planner", "kept"];

const WINDOWS = [
  { value: "3600", label: "hour" },
  { value: "86400", label: "day" },
  { value: "604800", label: "week" },
];

const HOUR_S = 3600;

function readLive(seconds: number): Promise<Live> {
  return data(api.GET("/admin/v1/recommendations/live", { params: { query: { seconds } } }));
}

/** Which topology each model should have: traffic, SLOs and fleet in, a plan out. */
export default function PlannerPage() {
  const client = useQueryClient();
  const [kept] = useState(() => client.getQueryData<Kept>(KEPT) ?? null);
  const live = useQuery({
    queryKey: ["planner", "live"],
    queryFn: () => readLive(HOUR_S),
    enabled: kept === null,
    staleTime: Infinity,
  });
  return (
    <Page title="Planner">
      {kept !== null ? (
        <Planner begin={kept} />
      ) : (
        <Loaded of={live} what="what was asked">
          {(found) => <Planner begin={{ live: found, asked: begun(found), made: null }} />}
        </Loaded>
      )}
    </Page>
  );
}

function Planner({ begin }: { begin: Kept }) {
  const client = useQueryClient();
  const [{ live, asked, made }, setPage] = useState(begin);
  useEffect(() => {
    client.setQueryDefaults(KEPT, { gcTime: Infinity });
    client.setQueryData<Kept>(KEPT, { live, asked, made });
  }, [client, live, asked, made]);
  const { ask, cancel, note, failure, forget } = useRecommendation((plan, body) => {
    setPage((now) => ({ ...now, made: { plan, body } }));
  });

  const change = (next: Asked) => {
    forget();
    setPage((now) => ({ ...now, asked: next }));
  };
  const place = failure instanceof ApiError ? placeOf(failure.field, asked) : null;
  const wrong: Wrong | null = place === null ? null : { ...place, message: about(failure) };
  const form = useRef<HTMLFormElement>(null);
  useEffect(() => {
    if (failure !== null)
      form.current?.querySelector<HTMLElement>('[aria-invalid="true"]')?.focus();
  }, [failure]);

  // A new plan is brought before who asked for it: its beginning may be far off the button.
  const answer = useRef<HTMLElement>(null);
  const isNew = made !== begin.made;
  useEffect(() => {
    if (!isNew) return;
    answer.current?.scrollIntoView();
    answer.current?.focus({ preventScroll: true });
  }, [isNew, made]);

  const body = bodyOf(asked);
  const isOther = made !== null && JSON.stringify(body) !== JSON.stringify(made.body);
  return (
    <div className="planner">
      <Box component="section" aria-label="What is asked" miw={0}>
        <form
          ref={form}
          noValidate
          onSubmit={(event: SyntheticEvent) => {
            event.preventDefault();
            void ask(body);
          }}
        >
          <Stack gap="sm">
            <Beginning
              live={live}
              onRead={(found) => {
                forget();
                setPage((now) => ({
                  ...now,
                  live: found,
                  asked: { ...begun(found), objective: now.asked.objective },
                }));
              }}
            />
            <Form asked={asked} onChange={change} wrong={wrong} />
            {failure !== null && wrong === null && (
              <Problem error={failure} title="There is no plan" />
            )}
            <Group gap="sm">
              <Button type="submit" loading={note !== null}>
                Recommend
              </Button>
              {note !== null && (
                <Button variant="default" onClick={cancel}>
                  Cancel
                </Button>
              )}
            </Group>
            <Text size="sm" role="status" aria-live="polite" className="wrap">
              {note !== null && `The planner works: ${note} …`}
            </Text>
          </Stack>
        </form>
      </Box>
      <Box
        component="section"
        aria-label="Recommendation"
        className="planner-answer"
        miw={0}
        ref={answer}
        tabIndex={-1}
      >
        {made === null ? (
          note === null && (
            <Text c="dimmed">
              The planner says which topology each model should have on this fleet, so that as much
              of the traffic as can be is answered within its SLO. It computes for about a minute
              and changes nothing.
            </Text>
          )
        ) : (
          <div style={{ opacity: note === null ? 1 : 0.6 }}>
            {isOther && (
              <Text size="sm" c="dimmed" mb="xs">
                This is for what was asked before: it has been changed since.
              </Text>
            )}
            <Result plan={made.plan} asked={made.body} />
          </div>
        )}
      </Box>
    </div>
  );
}

function about(failure: unknown): string {
  return failure instanceof ApiError ? failure.message : sentence(failure);
}

/** One question at a time; *note* is what is being done, null while nothing is. */
function useRecommendation(onPlan: (plan: Plan, body: Body) => void) {
  const [note, setNote] = useState<string | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const running = useRef<AbortController | null>(null);
  useEffect(() => () => running.current?.abort(), []);
  const ask = async (body: Body) => {
    running.current?.abort();
    const mine = new AbortController();
    running.current = mine;
    setFailure(null);
    setNote("it begins");
    try {
      const plan = await recommend(body, mine.signal, setNote);
      if (plan !== null) onPlan(plan, body);
    } catch (error) {
      setFailure(error);
    } finally {
      if (running.current === mine) setNote(null);
    }
  };
  return {
    ask,
    note,
    failure,
    cancel: () => running.current?.abort(),
    forget: () => {
      setFailure(null);
    },
  };
}

/** Where the form's beginning comes from, and what is not in it. */
function Beginning({ live, onRead }: { live: Live; onRead: (live: Live) => void }) {
  const [seconds, setSeconds] = useState(String(live.seconds));
  const reading = useMutation({ mutationFn: () => readLive(Number(seconds)), onSuccess: onRead });
  const window = WINDOWS.find(({ value }) => value === String(live.seconds))?.label ?? "time";
  const left = Object.entries(live.left_out);
  return (
    <>
      <Group gap="xs" align="flex-end">
        <Select
          size="xs"
          w={150}
          label="As asked in the last"
          allowDeselect={false}
          data={WINDOWS}
          value={seconds}
          onChange={(value) => {
            if (value !== null) setSeconds(value);
          }}
        />
        <Button
          size="xs"
          variant="default"
          loading={reading.isPending}
          onClick={() => {
            reading.mutate();
          }}
        >
          Fill in anew
        </Button>
      </Group>
      {reading.isError && <Problem error={reading.error} title="Could not read what was asked" />}
      <Text size="sm" c="dimmed">
        {live.traffic === null
          ? `Nothing that can be planned for was asked in the last ${window}: below is an example.`
          : `The traffic is what was asked in the last ${window}.`}
        {live.fleet === null && " No node answers: the fleet is an example, too."}
      </Text>
      {left.length > 0 && (
        <Text size="sm" component="div">
          Left out:
          <List size="sm">
            {left.map(([name, why]) => (
              <List.Item key={name}>
                <b>{name}</b>: {why}
              </List.Item>
            ))}
          </List>
        </Text>
      )}
    </>
  );
}
