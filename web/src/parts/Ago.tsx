import { useEffect, useState } from "react";

import { seconds } from "./quantities";

/** How long ago something was; the time itself when pointed at. */
export function Ago({ at }: { at: string | null }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = window.setInterval(() => {
      setNow(Date.now());
    }, 5000);
    return () => {
      window.clearInterval(timer);
    };
  }, []);
  if (at === null) return <>–</>;
  const age = Math.max(0, (now - Date.parse(at)) / 1000);
  return (
    <time dateTime={at} title={new Date(at).toLocaleString()}>
      {age < 5 ? "now" : `${seconds(Math.round(age))} ago`}
    </time>
  );
}
