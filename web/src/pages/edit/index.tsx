import { Page } from "../../parts/Page";

export default function EditPage() {
  return <Page title="Edit">Not here yet.</Page>;
}
