import { useLocation, useParams } from "react-router";

import { useModel } from "../../api/queries";
import { Loaded, Page } from "../../parts/Page";
import { asYaml } from "./document";
import { Editor } from "./Editor";
import { handed, recommendedText } from "./recommended";
import { STARTS } from "./starts";

/** A new model, or another spec for one that is there. */
export default function EditPage() {
  const { name } = useParams();
  return name === undefined ? <NewModel key="new" /> : <Changed key={name} name={name} />;
}

function NewModel() {
  const recommended = handed(useLocation().state);
  const text = STARTS[0]?.text ?? "";
  return (
    <Editor
      begin={{ text, generation: 0, revision: 0 }}
      written={recommended === null ? undefined : recommendedText(recommended, null)}
      model={null}
    />
  );
}

function Changed({ name }: { name: string }) {
  const model = useModel(name);
  const recommended = handed(useLocation().state);
  if (model.data === undefined) {
    return (
      <Page title={`Edit ${name}`}>
        <Loaded of={model} what={`model ${name}`}>
          {() => null}
        </Loaded>
      </Page>
    );
  }
  const { spec, generation, revision } = model.data;
  return (
    <Editor
      begin={{ text: asYaml(spec), generation, revision }}
      written={recommended === null ? undefined : recommendedText(recommended, spec)}
      model={model.data}
    />
  );
}
