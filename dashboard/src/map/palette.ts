// Colours of the map: a cividis-like ramp, equal steps to every kind of eye, and one table that
// turns (state, value byte) into a pixel.

import { HostState, VALUE_ABOVE, VALUE_BELOW, VALUE_MAX, VALUE_NONE } from "../wire/frame";

export type Rgb = readonly [number, number, number];

/** Cividis with its dark end lifted, or the coolest hosts would drown in a dark page. */
const RAMP: readonly Rgb[] = [
  [16, 44, 92],
  [28, 58, 111],
  [48, 70, 110],
  [72, 84, 108],
  [94, 99, 111],
  [114, 115, 116],
  [135, 132, 121],
  [158, 150, 119],
  [182, 169, 113],
  [208, 190, 103],
  [234, 211, 87],
  [255, 234, 70],
];

const STATES = 7;

export interface Surface {
  /** Behind the cells. */
  readonly panel: Rgb;
  /** A host that has no value of this metric. */
  readonly none: Rgb;
  /** Behind the cross of a host that is down. */
  readonly down: Rgb;
}

/** The ramp at 0..1. */
export function rampAt(share: number): Rgb {
  const at = Math.min(1, Math.max(0, share)) * (RAMP.length - 1);
  const low = Math.floor(at);
  const a = RAMP[low] ?? [0, 0, 0];
  const b = RAMP[low + 1] ?? a;
  return mix(a, b, at - low);
}

export function mix(a: Rgb, b: Rgb, share: number): Rgb {
  const channel = (i: 0 | 1 | 2): number => Math.round(a[i] + (b[i] - a[i]) * share);
  return [channel(0), channel(1), channel(2)];
}

export function css(rgb: Rgb): string {
  return `rgb(${rgb[0]} ${rgb[1]} ${rgb[2]})`;
}

function grey(rgb: Rgb): Rgb {
  const light = Math.round(0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]);
  return [light, light, light];
}

/** As `ImageData` stores it, seen through a little-endian Uint32Array. */
function pixel(rgb: Rgb): number {
  return ((255 << 24) | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0]) >>> 0;
}

function byteColour(byte: number, surface: Surface): Rgb {
  if (byte === VALUE_NONE) return surface.none;
  if (byte === VALUE_BELOW) return rampAt(0);
  if (byte === VALUE_ABOVE) return rampAt(1);
  return rampAt(byte / VALUE_MAX);
}

/** Pixels by `state << 8 | byte`. `dim`: for hosts that a search does not mean. */
export function pixelTable(surface: Surface, dim: boolean): Uint32Array {
  const table = new Uint32Array(STATES << 8);
  for (let state = 1; state < STATES; state++) {
    for (let byte = 0; byte < 256; byte++) {
      let colour = byteColour(byte, surface);
      if (state === HostState.Stale) colour = mix(grey(colour), surface.panel, 0.35);
      if (state === HostState.Down) colour = surface.down;
      if (state === HostState.Muted) colour = mix(colour, surface.panel, 0.6);
      if (dim) colour = mix(colour, surface.panel, 0.82);
      table[(state << 8) | byte] = pixel(colour);
    }
  }
  return table;
}

/** Text over a map byte's colour, soft enough not to outshout the colour. */
export function inkOn(byte: number): string {
  const share = byte === VALUE_ABOVE ? 1 : byte === VALUE_BELOW ? 0 : byte / VALUE_MAX;
  return share > 0.5 ? "rgb(12 16 22 / 80%)" : "rgb(255 255 255 / 82%)";
}
