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
