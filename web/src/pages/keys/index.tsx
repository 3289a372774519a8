import { Page } from "../../parts/Page";

export default function KeysPage() {
  return <Page title="Keys">Not here yet.</Page>;
}
