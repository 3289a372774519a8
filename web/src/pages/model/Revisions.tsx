import { Button, Group, Modal, Select, Stack, Table, Text, Title } from "@mantine/core";
import { useState } from "react";
import { useSearchParams } from "react-router";
import { stringify } from "yaml";

import { api, data, type Schemas } from "../../api/client";
import { Action } from "../../parts/Action";
import { Ago } from "../../parts/Ago";
import { Differences } from "../../parts/Differences";
import { Loaded } from "../../parts/Page";
import { YamlEditor } from "../../parts/YamlEditor";
import { changed } from "./address";
import { Planned } from "./Planned";
import { useDiff, useRevisions } from "./queries";

const NOWRAP = { whiteSpace: "nowrap" } as const;

type Revision = Schemas["RevisionView"];

/** A model's history, what differs between any two of its revisions, and the way back to one. */
export default function Revisions({ model }: { model: Schemas["ModelView"] }) {
  const revisions = useRevisions(model.name);
  return (
    <Loaded of={revisions} what="the revisions">
      {(of) => (
        <Stack>
          <History model={model} revisions={of} />
          <Compared name={model.name} revisions={of} />
        </Stack>
      )}
    </Loaded>
  );
}

function History({ model, revisions }: { model: Schemas["ModelView"]; revisions: Revision[] }) {
  const [params, setParams] = useSearchParams();
  const [seen, setSeen] = useState<Revision | null>(null);
  const newest = revisions[0]?.number ?? 0;
  const compare = (from: number, to: number) => {
    setParams(changed(params, { from: String(from), to: String(to) }), { replace: true });
  };
  return (
    <Table.ScrollContainer minWidth={520} mah="45vh">
      <Table verticalSpacing={4} highlightOnHover>
        <Table.Thead>
          <Table.Tr>
            <Table.Th>Revision</Table.Th>
            <Table.Th>Made</Table.Th>
            <Table.Th>By</Table.Th>
            <Table.Th>What changed</Table.Th>
            <Table.Th ta="right">Traffic</Table.Th>
            <Table.Th>Actions</Table.Th>
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {revisions.map((revision) => (
            <Table.Tr key={revision.number}>
              <Table.Td style={NOWRAP}>
                {revision.number}
                {revision.newest ? " (newest)" : ""}
              </Table.Td>
              <Table.Td style={NOWRAP}>
                <Ago at={revision.created_at} />
              </Table.Td>
              <Table.Td>{revision.created_by_name || revision.created_by}</Table.Td>
              <Table.Td className="wrap">{revision.changes}</Table.Td>
              <Table.Td ta="right">{revision.traffic_percent} %</Table.Td>
              <Table.Td>
                <Group gap={6} justify="flex-end">
                  <Button
                    size="compact-xs"
                    variant="default"
                    onClick={() => {
                      setSeen(revision);
                    }}
                  >
                    YAML
                  </Button>
                  {revision.number > 1 && (
                    <Button
                      size="compact-xs"
                      variant="default"
                      title="Against the revision before it"
                      onClick={() => {
                        compare(revision.number - 1, revision.number);
                      }}
                    >
                      What it changed
                    </Button>
                  )}
                  {!revision.newest && (
                    <>
                      <Button
                        size="compact-xs"
                        variant="default"
                        onClick={() => {
                          compare(revision.number, newest);
                        }}
                      >
                        Against now
                      </Button>
                      <RollBack model={model} to={revision.number} />
                    </>
                  )}
                </Group>
              </Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      <Modal
        opened={seen !== null}
        onClose={() => {
          setSeen(null);
        }}
        title={`Revision ${seen?.number ?? ""} of ${model.name}`}
        size="xl"
      >
        {seen !== null && (
          <YamlEditor
            label={`Spec of revision ${seen.number}`}
            value={stringify(seen.spec)}
            height="65vh"
          />
        )}
      </Modal>
    </Table.ScrollContainer>
  );
}

function RollBack({ model, to }: { model: Schemas["ModelView"]; to: number }) {
  const back = (dryRun: boolean) =>
    data(
      api.POST("/admin/v1/models/{name}/rollback", {
        params: {
          path: { name: model.name },
          query: { to, dry_run: dryRun },
          header: { "If-Match": `"${model.generation}"` },
        },
      }),
    );
  return (
    <Action
      label={`Roll back to ${to}`}
      size="compact-xs"
      act={() => back(false)}
      done={`${model.name} goes back to what revision ${to} was.`}
      ask={
        <Planned
          what={["rollback", model.name, model.generation, to]}
          dry={() => back(true)}
          intro={`${model.name}: a new revision with the content of revision ${to}.`}
        />
      }
    />
  );
}

function Compared({ name, revisions }: { name: string; revisions: Revision[] }) {
  const [params, setParams] = useSearchParams();
  const newest = revisions[0]?.number ?? 1;
  const known = (value: string | null, otherwise: number) =>
    revisions.find((revision) => String(revision.number) === value)?.number ?? otherwise;
  const from = known(params.get("from"), Math.max(newest - 1, 1));
  const to = known(params.get("to"), newest);
  const choices = revisions.map((revision) => {
    const mark = revision.newest ? " (newest)" : "";
    return { value: String(revision.number), label: `Revision ${revision.number}${mark}` };
  });
  if (revisions.length < 2) {
    return <Text c="dimmed">It has one revision: there is nothing to compare yet.</Text>;
  }
  const choose = (field: "from" | "to") => (value: string | null) => {
    setParams(changed(params, { [field]: value }), { replace: true });
  };
  return (
    <Stack gap="xs">
      <Title order={2}>What differs</Title>
      <Group gap="sm">
        <Select
          size="xs"
          label="From"
          data={choices}
          value={String(from)}
          onChange={choose("from")}
          allowDeselect={false}
        />
        <Select
          size="xs"
          label="To"
          data={choices}
          value={String(to)}
          onChange={choose("to")}
          allowDeselect={false}
        />
      </Group>
      <DiffOf name={name} from={from} to={to} />
    </Stack>
  );
}

function DiffOf({ name, from, to }: { name: string; from: number; to: number }) {
  const diff = useDiff(name, from, to);
  return (
    <Loaded of={diff} what="the difference">
      {(of) => <Differences of={of} />}
    </Loaded>
  );
}
