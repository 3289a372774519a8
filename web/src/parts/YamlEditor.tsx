import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { type Diagnostic, setDiagnostics } from "@codemirror/lint";
import { Compartment, EditorState } from "@codemirror/state";
import { EditorView, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef } from "react";

import { nonce } from "../app/nonce";
import { between } from "./texts";

export type Mark = { line: number; message: string };

// CodeMirror's own colours are for a white ground alone.
const COLOURS = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--yaml-name)" },
  { tag: tags.comment, color: "var(--mantine-color-dimmed)", fontStyle: "italic" },
  { tag: [tags.string, tags.labelName, tags.typeName], color: "var(--yaml-text)" },
]);

/**
 * What is typed over selected text goes into the document by itself. Chromium would give it the
 * colours of the text that it replaces, in a style attribute, which the page's policy blocks.
 */
const TYPED_OVER = EditorView.domEventHandlers({
  beforeinput: (event, view) => {
    const { state } = view;
    const text = event.inputType === "insertText" ? event.data : null;
    if (text === null || view.composing || state.readOnly || state.selection.main.empty) {
      return false;
    }
    view.dispatch(state.replaceSelection(text), { userEvent: "input.type", scrollIntoView: true });
    return true;
  },
});

/**
 * YAML to read or to write. Tab leaves it, as in every other field: a keyboard must not be caught.
 * *marks* are lines (from 1) with what is wrong in them.
 */
export function YamlEditor({
  label,
  value,
  onChange,
  marks = [],
  height = "60vh",
}: {
  label: string;
  value: string;
  /** Without it the text can only be read. */
  onChange?: (value: string) => void;
  marks?: readonly Mark[];
  height?: string;
}) {
  const place = useRef<HTMLDivElement>(null);
  const view = useRef<EditorView | null>(null);
  const changed = useRef(onChange);
  const look = useRef(new Compartment());
  const dark = useComputedColorScheme("light") === "dark";
  useEffect(() => {
    changed.current = onChange;
  }, [onChange]);

  useEffect(() => {
    if (place.current === null) return;
    const made = new EditorView({
      parent: place.current,
      state: EditorState.create({
        doc: value,
        extensions: [
          lineNumbers(),
          history(),
          yaml(),
          syntaxHighlighting(COLOURS),
          keymap.of([...defaultKeymap, ...historyKeymap]),
          EditorView.cspNonce.of(nonce()),
          EditorView.lineWrapping,
          TYPED_OVER,
          EditorView.contentAttributes.of({ "aria-label": label }),
          EditorState.readOnly.of(changed.current === undefined),
          look.current.of([]),
          EditorView.updateListener.of((update) => {
            if (update.docChanged) changed.current?.(update.state.doc.toString());
          }),
        ],
      }),
    });
    view.current = made;
    return () => {
      made.destroy();
      view.current = null;
    };
    // The text is put in below.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [label]);

  useEffect(() => {
    const editor = view.current;
    if (editor === null) return;
    const change = between(editor.state.doc.toString(), value);
    if (change !== null) editor.dispatch({ changes: change });
  }, [value]);

  useEffect(() => {
    const theme = EditorView.theme(
      {
        "&": {
          height,
          "--yaml-name": dark ? "#74c0fc" : "#1864ab",
          "--yaml-text": dark ? "#ffd8a8" : "#8a4b00",
          border: "1px solid var(--mantine-color-default-border)",
          fontSize: "13px",
        },
        ".cm-scroller": { overflow: "auto" },
        ".cm-gutters": { background: "transparent", color: "var(--mantine-color-dimmed)" },
      },
      { dark },
    );
    view.current?.dispatch({ effects: look.current.reconfigure(theme) });
  }, [dark, height]);

  useEffect(() => {
    const editor = view.current;
    if (editor === null) return;
    const found = marks.map((mark): Diagnostic => {
      const line = editor.state.doc.line(Math.min(Math.max(1, mark.line), editor.state.doc.lines));
      return { from: line.from, to: line.to, severity: "error", message: mark.message };
    });
    editor.dispatch(setDiagnostics(editor.state, found));
  }, [marks]);

  return <div ref={place} />;
}
