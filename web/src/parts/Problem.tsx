import { Alert } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";

import { sentence } from "../api/errors";

/** Something that failed, in the API's own words, said to screen readers as well. */
export function Problem({ error, title }: { error: unknown; title: string }) {
  return (
    <Alert color="red" title={title} icon={<IconAlertTriangle aria-hidden />} role="alert">
      <span className="wrap">{sentence(error)}</span>
    </Alert>
  );
}
