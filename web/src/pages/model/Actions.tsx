import { Button } from "@mantine/core";
import { Link, useNavigate } from "react-router";

import { api, data, type Schemas } from "../../api/client";
import { useDenied } from "../../app/session";
import { Action } from "../../parts/Action";
import { isUnderWay } from "./rollout";

type Model = Schemas["ModelView"];

/** All that can be done with a model from its page; what cannot now says why. */
export function Actions({ model }: { model: Model }) {
  const navigate = useNavigate();
  const denied = useDenied();
  const { name } = model;
  const params = { path: { name } };
  const workers = model.variants.flatMap((variant) => variant.workers);
  const asleep = workers.some((worker) => worker.phase === "asleep");
  const awake = workers.some((worker) => worker.phase === "ready");
  return (
    <>
      <Button
        component={Link}
        to={`/models/${encodeURIComponent(name)}/edit`}
        size="xs"
        variant={denied === null ? "filled" : "default"}
        title={denied ?? undefined}
      >
        Change
      </Button>
      <RolloutActions model={model} />
      <Action
        label="Sleep"
        act={() => data(api.POST("/admin/v1/models/{name}/sleep", { params }))}
        done={`${name} falls asleep once its workers have nothing to do.`}
        disabled={awake ? null : "No worker of it is awake and ready"}
        ask={`${name}: its workers fall asleep once they have nothing to do. The next request, or Wake, wakes them; until then it is answered late.`}
      />
      <Action
        label="Wake"
        act={() => data(api.POST("/admin/v1/models/{name}/wake", { params }))}
        done={`${name} wakes up.`}
        disabled={asleep ? null : "No worker of it is asleep"}
      />
      <Action
        label="Delete"
        color="red"
        variant="outline"
        act={async () => {
          await data(api.DELETE("/admin/v1/models/{name}", { params }));
          await navigate("/models");
        }}
        done={`${name} is deleted. Its workers end once their requests have.`}
        disabled={model.state === "deleting" ? "It is being deleted" : null}
        ask={`${name} is deleted: requests for it are refused from now on, and its ${workers.length} workers end. Its revisions are not kept.`}
      />
    </>
  );
}

/** Only while a rollout is under way. */
export function RolloutActions({ model }: { model: Model }) {
  const { name, rollout } = model;
  if (rollout === null || !isUnderWay(rollout.state)) return null;
  const params = { path: { name } };
  const stands = rollout.state !== "progressing";
  return (
    <>
      {stands ? (
        <Action
          label="Resume rollout"
          act={() => data(api.POST("/admin/v1/models/{name}/rollout:resume", { params }))}
          done={`The rollout of ${name} goes on.`}
        />
      ) : (
        <Action
          label="Pause rollout"
          act={() => data(api.POST("/admin/v1/models/{name}/rollout:pause", { params }))}
          done={`The rollout of ${name} stays at its step.`}
        />
      )}
      <Action
        label="Abort rollout"
        color="red"
        variant="outline"
        act={() => data(api.POST("/admin/v1/models/{name}/rollout:abort", { params }))}
        done={`${name} goes back to revision ${rollout.from_revision}.`}
        ask={`The rollout of ${name} to revision ${rollout.to_revision} is given up: a new revision with the content of revision ${rollout.from_revision} takes all traffic.`}
      />
    </>
  );
}
