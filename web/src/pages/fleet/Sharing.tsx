import { Anchor, Table, Text, Title } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "react-router";

import { api, data } from "../../api/client";
import { Loaded } from "../../parts/Page";
import { bytes, seconds } from "../../parts/quantities";

// Who leads, who may hold how much, who takes turns: small tables under the map.

const POLL_MS = 10_000;

export function Controllers() {
  const found = useQuery({
    queryKey: ["controllers"],
    queryFn: async () => (await data(api.GET("/admin/v1/controllers"))).items,
    refetchInterval: POLL_MS,
  });
  return (
    <Section title="Controller">
      <Loaded of={found} what="who leads">
        {([leader]) =>
          leader === undefined ? (
            <Text size="sm" c="red">
              Nobody leads: nothing is placed, started or replaced until a controller runs. Start
              one, or look at the log of the one there is.
            </Text>
          ) : (
            <Text size="sm" className="num">
              {leader.holder} leads, term {leader.epoch}.
            </Text>
          )
        }
      </Loaded>
    </Section>
  );
}

export function Owners() {
  const found = useQuery({
    queryKey: ["quotas"],
    queryFn: async () => (await data(api.GET("/admin/v1/quotas"))).items,
    refetchInterval: POLL_MS,
  });
  return (
    <Section title="Quotas">
      <Loaded of={found} what="the quotas">
        {(owners) => (
          <Rows
            titles={["Owner", "Devices", "Memory", "Models"]}
            rows={owners.map((owner) => [
              owner.owner,
              of(String(owner.devices), owner.devices_quota),
              of(
                bytes(owner.memory_bytes),
                owner.memory_bytes_quota === null ? null : bytes(owner.memory_bytes_quota),
              ),
              owner.models.length,
            ])}
            empty="No model has an owner yet. `modelyard quotas set OWNER` limits one."
          />
        )}
      </Loaded>
    </Section>
  );
}

function of(held: string, quota: number | string | null): string {
  return quota === null ? `${held}, no limit` : `${held} of ${quota}`;
}

export function Pools() {
  const found = useQuery({
    queryKey: ["pools"],
    queryFn: async () => (await data(api.GET("/admin/v1/pools"))).items,
    refetchInterval: POLL_MS,
  });
  return (
    <Section title="Pools">
      <Loaded of={found} what="the pools">
        {(pools) => (
          <Rows
            titles={[
              "Pool",
              "Models",
              "Awake",
              "Asleep",
              "Queued",
              "Devices",
              "Overcommit",
              "Awake at least",
            ]}
            rows={pools.map((pool) => {
              const sum = (key: "awake" | "asleep" | "queued") =>
                pool.members.reduce((total, member) => total + member[key], 0);
              return [
                pool.name,
                <span key="models">
                  {pool.members.map((member) => (
                    <span key={member.model}>
                      <Anchor
                        component={Link}
                        size="sm"
                        to={`/models/${encodeURIComponent(member.model)}`}
                      >
                        {member.model}
                      </Anchor>{" "}
                    </span>
                  ))}
                </span>,
                sum("awake"),
                sum("asleep"),
                sum("queued"),
                pool.devices.length,
                `× ${pool.overcommit}`,
                seconds(pool.awake_min_s),
              ];
            })}
            empty="No model is in a pool. Models of one pool share devices by taking turns."
          />
        )}
      </Loaded>
    </Section>
  );
}

function Section({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title}>
      <Title order={2} mb={4}>
        {title}
      </Title>
      {children}
    </section>
  );
}

function Rows({
  titles,
  rows,
  empty,
}: {
  titles: readonly string[];
  rows: readonly (readonly ReactNode[])[];
  empty: string;
}) {
  if (rows.length === 0) {
    return (
      <Text size="sm" c="dimmed">
        {empty}
      </Text>
    );
  }
  return (
    <Table.ScrollContainer minWidth={400}>
      <Table verticalSpacing={4} fz="sm" w="auto">
        <Table.Thead>
          <Table.Tr>
            {titles.map((title) => (
              <Table.Th key={title}>{title}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {rows.map((row, at) => (
            <Table.Tr key={at}>
              {row.map((cell, column) => (
                <Table.Td key={column}>{cell}</Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </Table.ScrollContainer>
  );
}
