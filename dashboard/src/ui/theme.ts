// Colours that canvases need; the chrome has the same ones in `style.css`.

import type { MapTheme } from "../map/canvas";
import type { Theme } from "../state";

export interface ChartTheme {
  readonly axis: string;
  readonly grid: string;
  /** p50, p95, p99, max. */
  readonly lines: readonly [string, string, string, string];
}

export const MAP_THEME: Readonly<Record<Theme, MapTheme>> = {
  dark: {
    panel: [16, 21, 28],
    none: [38, 46, 56],
    down: [44, 20, 18],
    cross: "#ff6a4d",
    title: "#c9d3dd",
    count: "#7f8e9d",
    outline: "#ffffff",
    edge: "#05080b",
  },
  light: {
    panel: [255, 255, 255],
    none: [222, 227, 232],
    down: [253, 231, 226],
    cross: "#c8330f",
    title: "#26313b",
    count: "#667583",
    outline: "#10161c",
    edge: "#ffffff",
  },
};

export const CHART_THEME: Readonly<Record<Theme, ChartTheme>> = {
  dark: {
    axis: "#8897a6",
    grid: "#1d2630",
    lines: ["#6f93c4", "#4fc0b0", "#ffe04a", "#ff7d5c"],
  },
  light: {
    axis: "#5d6b78",
    grid: "#e6eaee",
    lines: ["#2f5fa3", "#0f7a6e", "#b88600", "#c8330f"],
  },
};
