/**
 * Reading a backend's options from the network config. Keys match without regard to case, as
 * flannel's JSON decoder does.
 *
 * @module
 */
import { ConfigError } from "../subnet/config.ts";
import { quote } from "../base/json.ts";

/** Least inner MTU: RFC 791's 576 bytes that every host takes, RFC 8200's 1280. */
export const LEAST_MTU = { ipv4: 576, ipv6: 1280 } as const;

/** A backend's options as they stand in the config's `Backend` object. */
export class Options {
  readonly #values = new Map<string, unknown>();

  constructor(options: Record<string, unknown>) {
    for (const [key, value] of Object.entries(options)) this.#values.set(key.toLowerCase(), value);
  }

  /**
   * A whole number in `min..=max`, `fallback` where the key is absent or null.
   *
   * @throws {ConfigError}
   */
  integer(key: string, fallback: number, min: number, max: number): number {
    const value = this.#values.get(key.toLowerCase()) ?? fallback;
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
      throw new ConfigError(
        `Backend.${key}: ${quote(value)} is not a whole number from ${min} to ${max}`,
      );
    }
    return value;
  }

  /**
   * True or false, `fallback` where the key is absent or null.
   *
   * @throws {ConfigError}
   */
  boolean(key: string, fallback: boolean): boolean {
    const value = this.#values.get(key.toLowerCase()) ?? fallback;
    if (typeof value !== "boolean") {
      throw new ConfigError(`Backend.${key}: ${quote(value)} is not true or false`);
    }
    return value;
  }
  /**
   * Texts, none of them empty, written as one text or as an array; none where the key is absent,
   * null or an empty text.
   *
   * @throws {ConfigError}
   */
  texts(key: string): string[] {
    const value = this.#values.get(key.toLowerCase()) ?? [];
    if (value === "") return [];
    const list: unknown[] = Array.isArray(value) ? value : [value];
    const isText = (entry: unknown): entry is string => typeof entry === "string" && entry !== "";
    if (list.every(isText)) return list;
    throw new ConfigError(
      `Backend.${key}: ${JSON.stringify(value)} is not a string or an array of strings`,
    );
  }
}
