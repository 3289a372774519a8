import { Anchor, Text } from "@mantine/core";
import { Link } from "react-router";

import { pieces } from "./commands";

/** What to do, with a way there; the command that does the same stands behind it. */
export function Advice({ of: advice, model }: { of: string; model: string }) {
  return pieces(advice, model).map(({ text, link }, at) =>
    link === undefined ? (
      text
    ) : (
      <span key={at}>
        <Anchor component={Link} inherit underline="always" to={link.to}>
          {link.label}
        </Anchor>{" "}
        <Text span inherit c="dimmed">
          (<code>{text}</code>)
        </Text>
      </span>
    ),
  );
}
