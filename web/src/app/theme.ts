import { createTheme, type CSSVariablesResolver } from "@mantine/core";

/** Calm and dense: an operator's tool. Colours have the contrast that WCAG AA asks for. */
export const theme = createTheme({
  primaryColor: "blue",
  primaryShade: { light: 8, dark: 8 },
  autoContrast: true,
  // Where black and white contrast alike with what is behind them.
  luminanceThreshold: 0.18,
  defaultRadius: "sm",
  fontFamily: 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif',
  fontFamilyMonospace: 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace',
  headings: {
    fontWeight: "600",
    sizes: { h1: { fontSize: "1.4rem" }, h2: { fontSize: "1.1rem" } },
  },
});

/** Words in these colours on white and on their own tint: Mantine's darkest shades are too light. */
const DARK_ENOUGH = {
  green: "#1d6b2e",
  yellow: "#7a4a00",
  orange: "#9c3600",
  red: "#b02525",
  blue: "#1259a0",
} as const;

export const variables: CSSVariablesResolver = () => ({
  variables: {},
  light: {
    ...Object.fromEntries(
      Object.entries(DARK_ENOUGH).flatMap(([name, colour]) => [
        [`--mantine-color-${name}-text`, colour],
        [`--mantine-color-${name}-light-color`, colour],
        [`--mantine-color-${name}-outline`, colour],
      ]),
    ),
    "--mantine-color-error": DARK_ENOUGH.red,
  },
  dark: { "--mantine-color-error": "var(--mantine-color-red-4)" },
});
