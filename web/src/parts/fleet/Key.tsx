import "./fleet.css";

import { Group, Text } from "@mantine/core";
import type { CSSProperties, ReactNode } from "react";

/** What is what on a fleet map. */
export function Key({ plan = false }: { plan?: boolean }) {
  return (
    <Group gap="md">
      <One is="claimed, in its model's colour">
        <span className="fleet-claim" style={half("hsl(210 55% 52%)")} />
      </One>
      <One is="seen in use">
        <span className="fleet-used" style={{ bottom: "40%" }} />
      </One>
      <One is="! quarantine or overuse" trouble>
        <span className="fleet-sign">!</span>
      </One>
      {plan && (
        <>
          <One is="+ would start">
            <span className="fleet-claim" data-starts style={{ bottom: 0, height: "60%" }} />
          </One>
          <One is="− would stop">
            <span className="fleet-claim" data-stops style={half("hsl(210 55% 52%)")} />
          </One>
        </>
      )}
    </Group>
  );
}

function half(colour: string): CSSProperties {
  return { bottom: 0, height: "60%", backgroundColor: colour };
}

function One({ is, trouble, children }: { is: string; trouble?: boolean; children: ReactNode }) {
  return (
    <Group gap={6} wrap="nowrap">
      <span
        className="fleet-device"
        data-trouble={trouble === true || undefined}
        style={{ width: 16, height: 22, cursor: "default" }}
        aria-hidden
      >
        {children}
      </span>
      <Text size="xs">{is}</Text>
    </Group>
  );
}
