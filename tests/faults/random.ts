/**
 * Chance that can be had again by its seed.
 *
 * @module
 */

/** Chance from a seed: the same seed, the same choices. */
export class Random {
  #state: number;

  /** @param seed a whole number */
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A number from 0 up to, not including, 1. */
  next(): number {
    // A linear congruential generator, Numerical Recipes' constants; its upper bits are good enough.
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return (this.#state >>> 8) / 2 ** 24;
  }

  /** A whole number from 0 up to, not including, `end`. */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  /** One of a list, with equal chances. */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)];
  }

  /** A list in another order. */
  shuffle<T>(list: readonly T[]): T[] {
    const left = [...list];
    return list.map(() => left.splice(this.below(left.length), 1)[0]);
  }
}
