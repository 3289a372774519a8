import { Page } from "../../parts/Page";

export default function PlaygroundPage() {
  return <Page title="Playground">Not here yet.</Page>;
}
