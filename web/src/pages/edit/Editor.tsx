import "./edit.css";

import {
  Alert,
  Box,
  Button,
  Checkbox,
  Group,
  List,
  Loader,
  Paper,
  SimpleGrid,
  Stack,
  Text,
  Title,
} from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { useNavigate } from "react-router";

import { api, data, type Schemas } from "../../api/client";
import { ApiError, sentence } from "../../api/errors";
import { Action } from "../../parts/Action";
import { Differences } from "../../parts/Differences";
import { Page } from "../../parts/Page";
import { Problem } from "../../parts/Problem";
import { type Mark, YamlEditor } from "../../parts/YamlEditor";
import { usePlan, useValidation } from "./checks";
import { asYaml, edited, isRead, lineOf, type Path, read, valueAt } from "./document";
import { FormProvider } from "./fields";
import { Meanwhile } from "./Meanwhile";
import { ModelForm } from "./ModelForm";
import { headline } from "./plan";
import { PlanPanel } from "./PlanPanel";
import { BeginWith } from "./BeginWith";
import { reshaped } from "./starts";

type Begin = { text: string; generation: number; revision: number };

/**
 * One text, the YAML, which form and editor both write; what the gateway says of it; what would
 * come of it; and its applying.
 */
export function Editor({
  begin,
  written,
  model,
}: {
  begin: Begin;
  /** What is to become of it already: the planner's. */
  written?: string;
  /** As it is now; null for a new one. */
  model: Schemas["ModelView"] | null;
}) {
  // Kept from the first render on: the model is read again and again, the text is the person's.
  const [base, setBase] = useState(begin);
  const [text, setText] = useState(written ?? begin.text);
  const [inOneStep, setInOneStep] = useState(false);
  const found = useMemo(() => read(text), [text]);
  // While the text cannot be read, the form shows the last one that could.
  const [whole, setWhole] = useState(() => (isRead(found) ? found : null));
  if (isRead(found) && found !== whole) setWhole(found);
  const renamed = model !== null && isRead(found) && found.spec.name !== model.name;
  const spec = isRead(found) && !renamed ? found.spec : null;
  const validation = useValidation(spec);
  const dirty = text !== base.text;
  const changes = validation.view?.changed === true;
  const { plan, error, thinking, again } = usePlan(spec, changes);

  const wrong = useMemo(() => {
    if (!isRead(found)) return { field: "", line: found.line, message: found.message };
    if (renamed) {
      const message = `is fixed: this is ${model.name}. A new model can begin as a copy of it.`;
      return { field: "name", line: lineOf(found, "name"), message };
    }
    if (validation.refused === null) return null;
    const { field, message } = validation.refused;
    return { field, line: lineOf(found, field), message };
  }, [found, renamed, model, validation.refused]);
  const marks = useMemo(
    (): Mark[] =>
      wrong === null
        ? []
        : [{ line: wrong.line, message: `${wrong.field} ${wrong.message}`.trim() }],
    [wrong],
  );

  useEffect(() => {
    if (!dirty) return undefined;
    const ask = (event: BeforeUnloadEvent) => {
      event.preventDefault();
    };
    window.addEventListener("beforeunload", ask);
    return () => {
      window.removeEventListener("beforeunload", ask);
    };
  }, [dirty]);

  const form = {
    spec: whole?.spec ?? {},
    put: (path: Path, value: unknown) => {
      setText((now) => edited(now, path, value));
    },
    wrong,
  };
  const onReshape = (path: Path, type: string) => {
    const topology = valueAt(whole?.spec, [...path, "topology"]) ?? {};
    setText((now) => reshaped(now, path, topology as Record<string, unknown>, type));
  };
  const title = model === null ? "New model" : `Edit ${model.name}`;
  const outdated = model !== null && model.generation !== base.generation;

  return (
    <Page title={title}>
      {model === null && (
        <BeginWith
          dirty={dirty}
          onBegin={(start) => {
            setBase({ ...base, text: start });
            setText(start);
          }}
        />
      )}
      {outdated && (
        <Meanwhile
          model={model}
          from={base.revision}
          onLoad={() => {
            const theirs = asYaml(model.spec);
            const { generation, revision } = model;
            setBase({ text: theirs, generation, revision });
            setText(theirs);
          }}
          onKeep={() => {
            setBase({ ...base, generation: model.generation, revision: model.revision });
          }}
        />
      )}
      <SimpleGrid cols={{ base: 1, md: 2 }} spacing="md">
        <Box component="section" aria-label="Form" miw={0} className="edit-form">
          <Title order={2} mb="xs">
            Form
          </Title>
          <fieldset disabled={!isRead(found)} style={{ border: 0, margin: 0, padding: 0 }}>
            {!isRead(found) && (
              <Text size="sm" c="dimmed" mb="xs">
                The YAML cannot be read: the form waits until it can.
              </Text>
            )}
            <FormProvider value={form}>
              <ModelForm named={model !== null} onReshape={onReshape} />
            </FormProvider>
          </fieldset>
        </Box>
        {/* Beside the form wherever one is in it. */}
        <div className="edit-beside">
          <Box component="section" aria-label="YAML" miw={0}>
            <Title order={2} mb="xs">
              YAML
            </Title>
            <YamlEditor
              label="The model's spec as YAML"
              value={text}
              onChange={setText}
              marks={marks}
              height="42vh"
            />
          </Box>
          <Box component="section" aria-label="What would come of it" mt="md">
            <Group gap="sm" mb="xs">
              <Title order={2}>What would come of it</Title>
              {thinking && <Loader role="status" size="xs" aria-label="Thinking it through" />}
              <Button
                size="xs"
                variant="default"
                disabled={validation.view === null}
                onClick={again}
              >
                Plan anew
              </Button>
            </Group>
            <Stack gap="md">
              {validation.view !== null && validation.view.warnings.length > 0 && (
                <Alert color="yellow" title="It is right, and may still not be what you mean">
                  <List size="sm">
                    {validation.view.warnings.map((warning) => (
                      <List.Item key={warning}>{warning}</List.Item>
                    ))}
                  </List>
                </Alert>
              )}
              {validation.view?.diff != null && (
                <Differences of={validation.view.diff} inOneStep={inOneStep} />
              )}
              {error !== null && <Problem error={error} title="It could not be thought through" />}
              {plan !== null && (changes || !dirty) && (
                <div style={{ opacity: thinking ? 0.6 : 1 }}>
                  <PlanPanel plan={plan} name={validation.view?.name ?? ""} />
                </div>
              )}
              {spec === null && (
                <Text size="sm" c="dimmed">
                  Once the YAML is right, this says what applying it would do.
                </Text>
              )}
            </Stack>
          </Box>
        </div>
      </SimpleGrid>
      <ApplyBar
        model={model}
        base={base}
        wrong={wrong}
        validation={validation}
        plan={plan}
        thinking={thinking}
        inOneStep={inOneStep}
        onInOneStep={setInOneStep}
        outdated={outdated}
      />
    </Page>
  );
}

/** Always in sight: how it stands, and the way on. */
function ApplyBar({
  model,
  base,
  wrong,
  validation,
  plan,
  thinking,
  inOneStep,
  onInOneStep,
  outdated,
}: {
  model: Schemas["ModelView"] | null;
  base: Begin;
  wrong: { field: string; line: number; message: string } | null;
  validation: ReturnType<typeof useValidation>;
  plan: Schemas["PlanView"] | null;
  thinking: boolean;
  inOneStep: boolean;
  onInOneStep: (value: boolean) => void;
  outdated: boolean;
}) {
  const navigate = useNavigate();
  const client = useQueryClient();
  const { view, failed, checking } = validation;
  const apply = async () => {
    if (view === null) return;
    const { name, spec } = view;
    const conditions =
      model === null ? { "If-None-Match": "*" } : { "If-Match": `"${base.generation}"` };
    try {
      await data(
        api.PUT("/admin/v1/models/{name}", {
          params: { path: { name }, query: { now: inOneStep }, header: conditions },
          body: spec,
        }),
      );
    } catch (failure) {
      // Who was faster is told on the page, once the model was read again.
      if (failure instanceof ApiError && failure.status === 412) {
        await client.invalidateQueries({ queryKey: ["model", name] });
      }
      throw failure;
    }
    await navigate(`/models/${encodeURIComponent(name)}`);
  };
  const status =
    wrong !== null
      ? `Line ${wrong.line}: ${`${wrong.field} ${wrong.message}`.trim()}`
      : failed !== null
        ? sentence(failed)
        : checking
          ? "Checking …"
          : view?.changed === false
            ? "Nothing differs from what is there."
            : plan !== null && !thinking
              ? `It is valid. ${headline(plan, view?.name ?? "").title}.`
              : "It is valid.";
  const taken = model === null && view !== null && !view.created;
  const disabled = taken
    ? `There is a model ${view.name} already. Give this one another name, or edit that one.`
    : outdated
      ? "It was changed meanwhile: say above how to go on."
      : wrong !== null || failed !== null
        ? status
        : view === null
          ? "It is being checked."
          : !view.changed
            ? "Nothing differs from what is there."
            : null;
  const lacks = plan?.no_place.some((item) => item.model === view?.name) === true;
  const costs = plan !== null && (plan.stops.length > 0 || lacks) ? plan : null;
  return (
    <Paper
      withBorder
      p="xs"
      shadow="sm"
      style={{ position: "sticky", bottom: 8, zIndex: 5 }}
      component="section"
      aria-label="Apply"
    >
      <Group justify="space-between" wrap="nowrap">
        <Text
          size="sm"
          role="status"
          className="wrap"
          c={wrong !== null || failed !== null || taken ? "red" : undefined}
        >
          {taken ? disabled : status}
        </Text>
        <Group gap="sm" wrap="nowrap" style={{ flexShrink: 0 }}>
          {model !== null && (
            <Checkbox
              size="xs"
              label="All traffic in one step"
              title="Now, whatever the spec's rollout says"
              checked={inOneStep}
              onChange={(event) => {
                onInOneStep(event.currentTarget.checked);
              }}
            />
          )}
          <Action
            label="Apply"
            variant="filled"
            disabled={disabled}
            ask={
              costs === null || view === null ? undefined : (
                <>
                  <b>{view.name}</b>: {headline(costs, view.name).title.toLowerCase()}.{" "}
                  {headline(costs, view.name).sentence}
                </>
              )
            }
            act={apply}
            done={`${view?.name ?? "It"} is applied.`}
          />
        </Group>
      </Group>
    </Paper>
  );
}
