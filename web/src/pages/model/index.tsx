import { Page } from "../../parts/Page";

export default function ModelPage() {
  return <Page title="Model">Not here yet.</Page>;
}
