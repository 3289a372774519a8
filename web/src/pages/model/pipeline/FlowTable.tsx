import { Table } from "@mantine/core";
import { Link } from "react-router";

import type { Schemas } from "../../../api/client";
import { percent, rate } from "../../../parts/quantities";
import { StateBadge } from "../../../parts/StateBadge";
import { phaseWord, workerName } from "./layout";

/** The same as the picture, as a table. */
export function FlowTable({
  flow,
  open,
}: {
  flow: Schemas["FlowView"];
  open: (worker: string) => string;
}) {
  const rows = flow.variants.flatMap((variant) =>
    variant.workers.map((worker) => ({ variant: variant.name, worker })),
  );
  return (
    <Table.ScrollContainer minWidth={860}>
      <Table verticalSpacing={4} highlightOnHover>
        <Table.Thead>
          <Table.Tr>
            {HEADS.map((head, index) => (
              <Table.Th key={head} ta={index >= NUMBERS_FROM ? "right" : "left"}>
                {head}
              </Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map(({ variant, worker }) => (
            <Table.Tr key={worker.id}>
              <Table.Td>
                <Link to={open(worker.id)}>{workerName(worker)}</Link>
              </Table.Td>
              <Table.Td>{variant}</Table.Td>
              <Table.Td>{worker.node}</Table.Td>
              <Table.Td>
                <StateBadge state={phaseWord(worker)} /> {worker.reason}
              </Table.Td>
              {[
                worker.revision,
                worker.running ?? "–",
                worker.waiting ?? "–",
                percent(worker.kv_usage),
                rate(worker.prompt_tokens_per_s),
                rate(worker.generation_tokens_per_s),
              ].map((value, index) => (
                <Table.Td key={index} ta="right">
                  {value}
                </Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}

const NUMBERS_FROM = 4;
const HEADS = [
  "Worker",
  "Variant",
  "Node",
  "Phase",
  "Revision",
  "Running",
  "Waiting",
  "KV cache",
  "Tok/s in",
  "Tok/s out",
];
