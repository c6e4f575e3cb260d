/**
 * The line through samples.
 *
 * @module
 */

/** How a value changes with time. */
export interface Trend {
  /** Change for each unit of time, by least squares. */
  slope: number;
  /** Standard error of the slope, of samples that are independent of each other. */
  error: number;
}

/**
 * The trend of values over their times; three samples at least, of two times.
 *
 * @example
 * ```ts
 * import { trend } from "./trend.ts";
 * console.assert(trend([[0, 1], [1, 3], [2, 5]]).slope === 2);
 * ```
 */
export function trend(samples: readonly [time: number, value: number][]): Trend {
  const mean = (at: 0 | 1) => samples.reduce((sum, one) => sum + one[at], 0) / samples.length;
  const [time, value] = [mean(0), mean(1)];
  const spread = samples.reduce((sum, [t]) => sum + (t - time) ** 2, 0);
  const slope = samples.reduce((sum, [t, v]) => sum + (t - time) * (v - value), 0) / spread;
  const rest = samples.reduce((sum, [t, v]) => sum + (v - value - slope * (t - time)) ** 2, 0);
  return { slope, error: Math.sqrt(rest / (samples.length - 2) / spread) };
}

/**
 * The trend of the means of `parts` equal parts of the time, with half the width of the slope's 95 %
 * confidence interval: what goes up and down within a part, as memory does between two garbage
 * collections, is one sample.
 */
export function trendOfParts(
  samples: readonly [time: number, value: number][],
  parts: number,
): Trend & { interval: number } {
  const [start, end] = [samples[0][0], samples.at(-1)![0]];
  const part = ([time]: [number, number]) =>
    Math.min(parts - 1, Math.floor((time - start) / (end - start) * parts));
  const mean = (at: 0 | 1, of: [number, number][]) =>
    of.reduce((sum, one) => sum + one[at], 0) / of.length;
  const groups = Map.groupBy(samples, part).values();
  const means = [...groups].map((group): [number, number] => [mean(0, group), mean(1, group)]);
  const { slope, error } = trend(means);
  // Student's t at 0.975, to 1 % from 6 degrees of freedom on.
  return { slope, error, interval: error * (1.96 + 2.5 / (means.length - 2)) };
}
