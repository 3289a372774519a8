import { Group, List, SegmentedControl, Stack, VisuallyHidden } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import { useId, useMemo } from "react";
import { useSearchParams } from "react-router";

import type { Schemas } from "../../../api/client";
import { useFlow } from "../../../api/queries";
import { Loaded } from "../../../parts/Page";
import { changed } from "../address";
import { isUnderWay } from "../rollout";
import { FlowTable } from "./FlowTable";
import { type Beside, layout, sentences, slotKey } from "./layout";
import { FlowPicture } from "./Picture";
import { Scale } from "./Scale";

/** Who feeds whom: the model's pipeline as a picture, or the same as a table. */
export function Pipeline({ model }: { model: Schemas["ModelView"] }) {
  const flow = useFlow(model.name);
  return (
    <Loaded of={flow} what="the pipeline">
      {(of) => <Drawn model={model} flow={of} />}
    </Loaded>
  );
}

function Drawn({ model, flow }: { model: Schemas["ModelView"]; flow: Schemas["FlowView"] }) {
  const [params, setParams] = useSearchParams();
  const asTable = params.get("as") === "table";
  const { ref, width } = useElementSize();
  const described = useId();
  const beside = useMemo(() => besideOf(model, width), [model, width]);
  const picture = useMemo(() => (width > 0 ? layout(flow, beside) : null), [flow, beside, width]);
  const open = (worker: string) => changed(params, { worker });
  return (
    <Stack gap="sm">
      <Group justify="space-between" align="flex-end">
        <Scale model={model} />
        <SegmentedControl
          size="xs"
          aria-label="How the pipeline is shown"
          value={asTable ? "table" : "picture"}
          onChange={(value) => {
            setParams(changed(params, { as: value === "table" ? "table" : null }), {
              replace: true,
            });
          }}
          data={[
            { value: "picture", label: "Picture" },
            { value: "table", label: "Table" },
          ]}
        />
      </Group>
      <VisuallyHidden>
        <List id={described}>
          {sentences(flow, beside).map((sentence) => (
            <List.Item key={sentence}>{sentence}</List.Item>
          ))}
        </List>
      </VisuallyHidden>
      <div ref={ref} style={{ overflowX: "auto" }}>
        {asTable ? (
          <FlowTable flow={flow} open={open} />
        ) : (
          picture !== null && (
            <FlowPicture
              of={picture}
              label={`The pipeline of ${model.name}`}
              describedBy={described}
              open={open}
              openAll={changed(params, { tab: "workers" })}
            />
          )
        )}
      </div>
    </Stack>
  );
}

function besideOf(model: Schemas["ModelView"], width: number): Beside {
  const { rollout } = model;
  return {
    width,
    rollout:
      rollout !== null && isUnderWay(rollout.state)
        ? { from: rollout.from_revision, to: rollout.to_revision, percent: rollout.percent }
        : null,
    shadows: new Map(
      model.spec.variants
        .map(({ name = "default", shadow_percent = 0 }) => [name, shadow_percent] as const)
        .filter(([, percent]) => percent > 0),
    ),
    noPlace: new Map(
      model.no_place.map((item) => [
        slotKey(item.variant, item.role),
        item.why[0]?.sentence ?? "waits for others to end",
      ]),
    ),
  };
}
