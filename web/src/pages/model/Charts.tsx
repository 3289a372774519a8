import { Group, SegmentedControl, Select, SimpleGrid, Stack, Text } from "@mantine/core";
import { useMemo } from "react";
import { useSearchParams } from "react-router";

import type { Schemas } from "../../api/client";
import { Chart, LINES } from "../../parts/Chart";
import { Loaded } from "../../parts/Page";
import { rate, seconds, short } from "../../parts/quantities";
import { changed } from "./address";
import { useSeries } from "./queries";
import { type Plot, plotsOf, RANGES } from "./series";

const FORMATS = { seconds, rate, count: short } as const;

/** How long answers took and how many there were, of the model or of one of its variants. */
export function Charts({ model }: { model: Schemas["ModelView"] }) {
  const [params, setParams] = useSearchParams();
  const variants = model.variants.map((variant) => variant.name);
  const asked = params.get("variant");
  const variant = asked !== null && variants.includes(asked) ? asked : null;
  const range = RANGES.find((one) => one.key === params.get("range")) ?? RANGES[0];
  const series = useSeries(model.name, variant, range.sinceS, range.stepS);
  const put = (changes: Record<string, string | null>) => {
    setParams(changed(params, changes), { replace: true });
  };
  return (
    <Stack gap="sm">
      <Group gap="sm">
        <SegmentedControl
          size="xs"
          aria-label="How far back"
          value={range.key}
          onChange={(key) => {
            put({ range: key });
          }}
          data={RANGES.map((one) => ({ value: one.key, label: one.label }))}
        />
        {variants.length > 1 && (
          <Select
            size="xs"
            aria-label="Of which variant"
            value={variant ?? ""}
            onChange={(value) => {
              put({ variant: value === "" ? null : value });
            }}
            allowDeselect={false}
            data={[
              { value: "", label: "All variants" },
              ...variants.map((name) => ({ value: name, label: name })),
            ]}
          />
        )}
      </Group>
      <Loaded of={series} what="the charts">
        {(of) => <Plots of={of} />}
      </Loaded>
    </Stack>
  );
}

function Plots({ of }: { of: Schemas["SeriesView"] }) {
  const at = useMemo(() => of.points.map((point) => Date.parse(point.at) / 1000), [of]);
  const plots = useMemo(() => plotsOf(of), [of]);
  const any = of.points.some((point) => point.requests > 0);
  return (
    <>
      {!any && <Text c="dimmed">No request has ended in this time.</Text>}
      <SimpleGrid cols={{ base: 1, lg: 2 }} spacing="sm">
        {plots.map((plot) => (
          <PlotChart key={plot.title} of={plot} at={at} />
        ))}
      </SimpleGrid>
    </>
  );
}

function PlotChart({ of, at }: { of: Plot; at: readonly number[] }) {
  const format = FORMATS[of.unit];
  const lines = useMemo(
    () =>
      of.lines.map((line, index) => ({ ...line, colour: LINES[index % LINES.length] ?? LINES[0] })),
    [of],
  );
  const summary = of.lines
    .map((line) => `${line.label} ${line.newest === null ? "–" : format(line.newest)}`)
    .join(", ");
  return <Chart title={of.title} summary={summary} at={at} lines={lines} format={format} />;
}
