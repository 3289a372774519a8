import { Page } from "../../parts/Page";

export default function UsagePage() {
  return <Page title="Usage">Not here yet.</Page>;
}
