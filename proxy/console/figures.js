// Figures from histograms and from the points of the history. Pure.

export const SLOW_MS = 50;
export const WINDOW_S = 900;

// The points by their time, each once, the last 15 minutes of them, newest last.
export function joined(known, more) {
  const byTime = new Map([...known, ...more].map((point) => [point.at, point]));
  const points = [...byTime.values()].sort((a, b) => a.at - b.at);
  const newest = points.at(-1)?.at ?? 0;
  return points.filter((point) => point.at > newest - WINDOW_S);
}

export function sumBuckets(histograms) {
  const sums = new Map();
  for (const buckets of histograms) {
    for (const [edge, number] of buckets) sums.set(edge, (sums.get(edge) ?? 0) + number);
  }
  return [...sums].sort(([a], [b]) => (a ?? Infinity) - (b ?? Infinity));
}

// Milliseconds below which `q` of the observations lie, as even as can be within a bucket.
export function quantileMs(buckets, q) {
  const total = buckets.reduce((sum, [, number]) => sum + number, 0);
  if (!total) return null;
  let below = 0;
  let lower = 0;
  for (const [edge, number] of buckets) {
    if (number && below + number >= q * total) {
      return 1000 * (edge === null ? lower : lower + (edge - lower) * ((q * total - below) / number));
    }
    below += number;
    lower = edge ?? lower;
  }
  return 1000 * lower;
}

export function hitRatio(hits, misses) {
  return hits + misses ? hits / (hits + misses) : null;
}

// What the last `lastS` seconds of the history have of one source, or of all.
export function recent(points, lastS, source) {
  const newest = points.at(-1)?.at ?? 0;
  const meant = points.filter((point) => point.at > newest - lastS);
  const sum = (of) => meant.reduce((total, point) => total + (of(point) ?? 0), 0);
  return {
    requests: source ? sum((point) => point.by_source?.[source]) : sum((point) => point.requests),
    hits: sum((point) => point.hits),
    p95: source ? quantileMs(sumBuckets(meant.map((point) => point.latency?.[source] ?? [])), 0.95) : null,
  };
}

const USUAL = ['optimized', 'legacy', 'stale', 'cached_routes', 'passthrough', 'none', 'memory', 'redis', 'database'];

export const sourcesOf = (points, latency = {}) => {
  const found = new Set(Object.keys(latency));
  for (const point of points) {
    for (const name of Object.keys(point.by_source ?? {})) found.add(name);
    for (const name of Object.keys(point.p95_ms ?? {})) found.add(name);
  }
  const rank = (name) => (USUAL.includes(name) ? USUAL.indexOf(name) : USUAL.length);
  return [...found].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
};
