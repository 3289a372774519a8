// What to do about something, in the words of the API, which name commands: where the console has a
// page or a button for one, it leads there. Pure.

export type Piece = { text: string; link?: { label: string; to: string } };

type Way = { label: string; to: (name: string, model: string) => string };

function page(model: string, tab?: string): string {
  return `/models/${encodeURIComponent(model)}${tab === undefined ? "" : `?tab=${tab}`}`;
}

const NODE = (name: string) => `/fleet?node=${encodeURIComponent(name)}`;
const ROLLOUT = (name: string) => page(name, "rollout");

// Each is called as it is where it leads to.
const WAYS: Readonly<Record<string, Way>> = {
  "describe model": { label: "its page", to: (name) => page(name) },
  logs: {
    label: "its log",
    to: (worker, model) => `${page(model, "workers")}&worker=${encodeURIComponent(worker)}`,
  },
  "events --model": { label: "its events", to: (name) => page(name, "events") },
  scale: { label: "Scale", to: (name) => page(name) },
  "rollout abort": { label: "Abort rollout", to: ROLLOUT },
  "rollout resume": { label: "Resume rollout", to: ROLLOUT },
  uncordon: { label: "Uncordon", to: NODE },
  "delete node": { label: "Forget", to: NODE },
};
const COMMAND = new RegExp(
  `modelyard (${Object.keys(WAYS).join("|")}) ([A-Za-z0-9._-]*[A-Za-z0-9])`,
);

/** *advice* in pieces: those with a link are commands that the console has something for. */
export function pieces(advice: string, model: string): Piece[] {
  const found = COMMAND.exec(advice);
  const [whole, command = "", name = ""] = found ?? [];
  const way = WAYS[command];
  if (found === null || whole === undefined || way === undefined) {
    return advice === "" ? [] : [{ text: advice }];
  }
  const before = advice.slice(0, found.index);
  return [
    ...(before === "" ? [] : [{ text: before }]),
    { text: whole, link: { label: way.label, to: way.to(name, model) } },
    ...pieces(advice.slice(found.index + whole.length), model),
  ];
}
