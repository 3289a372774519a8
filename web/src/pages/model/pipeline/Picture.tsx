import { Link, useLocation } from "react-router";

import type { Edge, Frame, Group, Picture, Rect, Tile } from "./layout";

/** A model's pipeline, drawn. What its workers' links lead to is said by *open*. */
export function FlowPicture({
  of,
  label,
  describedBy,
  open,
  openAll,
}: {
  of: Picture;
  label: string;
  describedBy: string;
  /** The address of a worker's details. */
  open: (worker: string) => string;
  /** The address of all workers. */
  openAll: string;
}) {
  return (
    <svg
      className="flow"
      width={of.width}
      height={of.height}
      role="group"
      aria-label={label}
      aria-describedby={describedBy}
    >
      <defs>
        {["", "-still", "-failing"].map((kind) => (
          <marker
            key={kind}
            id={`arrow${kind}`}
            viewBox="0 0 8 8"
            refX={6}
            refY={4}
            markerWidth={9}
            markerHeight={9}
            markerUnits="userSpaceOnUse"
            orient="auto"
          >
            <path d="M 0 0 L 8 4 L 0 8 z" className={ARROWS[kind]} />
          </marker>
        ))}
      </defs>
      <g aria-hidden>
        <Box of={of.gateway} className="gateway" radius={6} />
        <text x={of.gateway.x + 10} y={of.gateway.y + 22} className="title">
          Gateway
        </text>
        {of.gateway.lines.map((line, index) => (
          <text key={index} x={of.gateway.x + 10} y={of.gateway.y + 42 + index * 17}>
            {line}
          </text>
        ))}
        {of.frames.map((frame) => (
          <FrameBack key={frame.variant} of={frame} />
        ))}
        {of.edges.map((edge) => (
          <EdgeLine key={edge.key} of={edge} />
        ))}
      </g>
      {of.frames.flatMap((frame) =>
        frame.lanes.flatMap((lane, laneIndex) =>
          lane.groups.flatMap((group) =>
            group.tiles.map((tile, index) => {
              const key = `${frame.variant} ${laneIndex} ${group.role} ${tile.worker ?? index}`;
              const to =
                tile.worker !== null
                  ? open(tile.worker)
                  : tile.title.startsWith("+")
                    ? openAll
                    : null;
              return <TileBox key={key} of={tile} to={to} />;
            }),
          ),
        ),
      )}
    </svg>
  );
}

const ARROWS: Record<string, string> = {
  "": "arrow",
  "-still": "arrow still",
  "-failing": "arrow failing",
};

function Box({ of, className, radius }: { of: Rect; className: string; radius: number }) {
  return <rect x={of.x} y={of.y} width={of.w} height={of.h} rx={radius} className={className} />;
}

function FrameBack({ of }: { of: Frame }) {
  return (
    <>
      <Box of={of} className="frame" radius={6} />
      <text x={of.x + 10} y={of.y + 18}>
        <tspan className="title">{of.title}</tspan>
        <tspan className="dimmed"> {of.state}</tspan>
      </text>
      <text x={of.x + 10} y={of.y + 34} className="dimmed">
        {of.facts}
      </text>
      {of.lanes.map((lane, index) => (
        <g key={index}>
          {lane.title !== null && (
            <>
              <Box of={lane} className="lane" radius={4} />
              <text x={lane.x + 10} y={lane.y + 15} className="title">
                {lane.title}
              </text>
            </>
          )}
          {lane.groups.map((group) => (
            <GroupBack key={group.role} of={group} />
          ))}
        </g>
      ))}
    </>
  );
}

function GroupBack({ of }: { of: Group }) {
  return (
    <g className={of.tone}>
      <Box of={of} className={`group ${of.tone}`} radius={4} />
      <text
        x={of.x + 8}
        y={of.y + 15}
        className={of.tone === "bad" || of.tone === "warn" ? "toned" : "dimmed"}
      >
        {of.title}
      </text>
    </g>
  );
}

function EdgeLine({ of }: { of: Edge }) {
  const kind = of.failing ? "failing" : of.load === null ? "still" : "";
  return (
    <>
      <path
        d={of.path}
        className={`edge ${kind}`}
        strokeWidth={of.load === null ? 1.5 : 1.5 + 3 * Math.min(of.load, 1)}
        markerEnd={`url(#arrow${kind === "" ? "" : `-${kind}`})`}
      />
      {of.labels.map((label, index) => (
        <g key={index} className={label.tone === "bad" ? "bad" : undefined}>
          <text
            x={label.x}
            y={label.y}
            textAnchor={label.at}
            className={label.tone === "bad" ? "toned" : undefined}
          >
            {label.text}
          </text>
        </g>
      ))}
    </>
  );
}

function TileBox({ of, to }: { of: Tile; to: string | null }) {
  const { pathname } = useLocation();
  const drawn = (
    <g className={`${of.tone}${of.dim ? " dim" : ""}`}>
      <title>{of.label}</title>
      <Box of={of} className="tile" radius={4} />
      <rect x={of.x} y={of.y + 4} width={3} height={of.h - 8} className="toned" />
      <text x={of.x + 10} y={of.y + 18} className="title">
        {of.title}
      </text>
      <text x={of.x + of.w - 8} y={of.y + 18} textAnchor="end" className="toned">
        {of.word}
      </text>
      {of.lines.map((line, index) => (
        <text key={index} x={of.x + 10} y={of.y + 35 + index * 16} className="dimmed">
          {line}
        </text>
      ))}
      {of.kv !== null && <KvBar of={of} share={of.kv} />}
    </g>
  );
  if (to === null) return <g aria-label={of.label}>{drawn}</g>;
  return (
    <Link to={`${pathname}${to}`}>
      <title>{of.label}</title>
      {drawn}
    </Link>
  );
}

function KvBar({ of, share }: { of: Tile; share: number }) {
  const w = of.w - 18;
  const full = share >= 0.9;
  return (
    <>
      <text
        x={of.x + of.w - 8}
        y={of.y + 51}
        textAnchor="end"
        className="dimmed"
      >{`KV ${Math.round(share * 100)} %`}</text>
      <rect x={of.x + 10} y={of.y + of.h - 9} width={w} height={4} rx={2} className="bar" />
      <g className={full ? "bad" : "busy"}>
        <rect
          x={of.x + 10}
          y={of.y + of.h - 9}
          width={w * Math.min(Math.max(share, 0), 1)}
          height={4}
          rx={2}
          className="toned"
        />
      </g>
    </>
  );
}
