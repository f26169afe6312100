/** The value below which a part of the samples lies; NaN of none. */
export function quantile(samples: readonly number[], part: number): number {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = part * (sorted.length - 1);
  const [below = NaN, above = below] = [sorted[Math.floor(at)], sorted[Math.ceil(at)]];
  return below + (above - below) * (at - Math.floor(at));
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

export interface Interval {
  readonly middle: number;
  readonly low: number;
  readonly high: number;
}

const resamples = 4000;

/**
 * Median of the samples with its 95 % bootstrap interval. The draws are the same at each run, so that one set
 * of samples has one interval.
 */
export function medianInterval(samples: readonly number[]): Interval {
  const random = newRandom(20_260_101);
  const medians = Array.from({ length: resamples }, () =>
    median(samples.map(() => samples[Math.floor(random() * samples.length)] ?? NaN)),
  );
  return { middle: median(samples), low: quantile(medians, 0.025), high: quantile(medians, 0.975) };
}

/** Uniform numbers from 0 up to 1. Source: the xorshift generator of 32 bits, shifts 13, 17, 5. */
function newRandom(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
