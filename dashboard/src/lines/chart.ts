// The fleet's percentiles of one metric over the last minutes, drawn by uPlot.

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { ChartTheme } from "../ui/theme";
import { formatClock, formatTick } from "../util/format";
import type { History } from "./history";
import { alone } from "./history";

export const SPAN_S = 600;
/** The window grows in these steps, so that a young chart is not an empty one. */
const WINDOWS_S = [60, 120, 300, SPAN_S] as const;
export const LINES = ["p50", "p95", "p99", "max"] as const;
const DASHES: readonly (number[] | null)[] = [null, null, null, [4, 3]];
const FONT = "11px system-ui, sans-serif";

export interface ChartLook {
  readonly theme: ChartTheme;
  readonly utc: boolean;
  readonly unit: string;
}

export class LinesChart {
  #plot: uPlot | null = null;
  #look: ChartLook | null = null;
  readonly #data: (number | null)[][] = [];
  readonly #holder: HTMLElement;
  readonly #history: History;
  readonly #pointed: (index: number | null) => void;

  constructor(holder: HTMLElement, history: History, pointed: (index: number | null) => void) {
    this.#holder = holder;
    this.#history = history;
    this.#pointed = pointed;
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(holder);
  }

  /** Answers the seconds that the chart spans. */
  paint(look: ChartLook, nowS: number): number {
    this.#history.fill(this.#data);
    const data = this.#data as unknown as uPlot.AlignedData;
    if (this.#plot === null || !sameLook(look, this.#look)) {
      this.#plot?.destroy();
      this.#look = look;
      this.#plot = new uPlot(this.#options(look), data, this.#holder);
    }
    const plot = this.#plot;
    const ageS = nowS - (this.#data[0]?.[0] ?? nowS);
    const span = WINDOWS_S.find((window) => window >= ageS) ?? SPAN_S;
    plot.batch(() => {
      plot.setData(data, false);
      plot.setScale("x", { min: nowS - span, max: nowS });
    });
    return span;
  }

  /** Values of all lines at a point of the history, for the readout while pointing. */
  valuesAt(index: number): { timeMs: number; values: (number | null)[] } {
    const timeMs = (this.#data[0]?.[index] ?? 0) * 1000;
    return { timeMs, values: LINES.map((_, i) => this.#data[i + 1]?.[index] ?? null) };
  }

  #size(): { width: number; height: number } {
    return {
      width: Math.max(120, this.#holder.clientWidth),
      height: Math.max(80, this.#holder.clientHeight),
    };
  }

  #options(look: ChartLook): uPlot.Options {
    return {
      ...this.#size(),
      legend: { show: false },
      cursor: { drag: { setScale: false, x: false, y: false }, points: { size: 6 } },
      scales: {
        x: { time: true, auto: false },
        y: { range: (_, __, max) => range(max, look.unit) },
      },
      axes: axes(look),
      series: [
        {},
        ...LINES.map((label, i): uPlot.Series => {
          const dash = DASHES[i];
          return {
            label,
            stroke: look.theme.lines[i] ?? look.theme.axis,
            width: 1.5,
            points: { show: false, size: 4, filter: (plot, line) => alone(plot.data[line]) },
            ...(dash ? { dash } : {}),
          };
        }),
      ],
      hooks: { setCursor: [(plot) => this.#pointed(plot.cursor.idx ?? null)] },
    };
  }
}

function axes(look: ChartLook): uPlot.Axis[] {
  const { axis, grid } = look.theme;
  const common = { stroke: axis, font: FONT, ticks: { show: false } };
  return [
    {
      ...common,
      grid: { stroke: grid, width: 1 },
      size: 24,
      space: 90,
      values: (_, ticks) => timeLabels(ticks, look.utc),
    },
    {
      ...common,
      grid: { stroke: grid, width: 1 },
      size: 48,
      space: 28,
      values: (_, ticks) => ticks.map((tick) => formatTick(tick, look.unit)),
    },
  ];
}

/** Seconds only where there are ticks between the minutes. */
function timeLabels(ticks: readonly number[], utc: boolean): string[] {
  const minutes = ticks.every((tick) => tick % 60 === 0);
  return ticks.map((tick) => formatClock(tick * 1000, utc).slice(0, minutes ? 5 : 8));
}

function range(max: number | null, unit: string): uPlot.Range.MinMax {
  if (unit === "%") return [0, 100];
  return [0, max === null || max <= 0 ? 1 : max * 1.08];
}

function sameLook(a: ChartLook, b: ChartLook | null): boolean {
  return b !== null && a.theme === b.theme && a.utc === b.utc && a.unit === b.unit;
}
