import { Page } from "../../parts/Page";

export default function FleetPage() {
  return <Page title="Fleet">Not here yet.</Page>;
}
