import { Page } from "../../parts/Page";

export default function ModelsPage() {
  return <Page title="Models">Not here yet.</Page>;
}
