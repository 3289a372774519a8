import { useEffect, useState } from "react";
import { NavigationType, useLocation, useNavigationType, useSearchParams } from "react-router";

/** A new address draws the whole page anew, and browsers refuse too many of them. */
const ADDRESS_AFTER_MS = 300;
const OURS = "typed";

/**
 * A text that is typed: here with the key, and a moment after the last one as *key* in the address,
 * so that it can be sent. Where the address changes otherwise, it is what is there.
 */
export function useTyped(key: string): [string, (text: string) => void] {
  const [params, setParams] = useSearchParams();
  const { state } = useLocation() as { state: unknown };
  const how = useNavigationType();
  const there = params.get(key) ?? "";
  const [text, setText] = useState(there);
  const [seen, setSeen] = useState(there);
  if (there !== seen) {
    setSeen(there);
    // What was put there from here is older than what has been typed since.
    if (state !== OURS || how === NavigationType.Pop) setText(there);
  }
  useEffect(() => {
    if (text === there) return;
    const timer = window.setTimeout(() => {
      setParams(
        (known) => {
          const next = new URLSearchParams(known);
          if (text === "") next.delete(key);
          else next.set(key, text);
          return next;
        },
        { replace: true, state: OURS },
      );
    }, ADDRESS_AFTER_MS);
    return () => {
      window.clearTimeout(timer);
    };
  }, [text, there, key, setParams]);
  return [text, setText];
}
