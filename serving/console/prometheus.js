// The text that Prometheus reads, as samples; and what a chart wants of two readings.

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\d+)?$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;

export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const found = LINE.exec(line.trim());
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] || "").matchAll(LABEL)) labels[name] = value.replace(/\\n/g, "\n").replace(/\\(.)/g, "$1");
    const value = found[3] === "+Inf" ? Infinity : found[3] === "-Inf" ? -Infinity : Number(found[3]);
    if (!samples.has(found[1])) samples.set(found[1], []);
    samples.get(found[1]).push({ labels, value });
  }
  return samples;
}

// Samples of one name under a condition, added up; null where the name is not there.
export function total(samples, name, fits = () => true) {
  const found = samples.get(name);
  return found ? found.filter(({ labels }) => fits(labels)).reduce((sum, { value }) => sum + value, 0) : null;
}

// Growth of a counter a second; a process that started anew begins at nothing.
export function rate(before, now, seconds, name, fits) {
  const a = total(before, name, fits), b = total(now, name, fits);
  if (b === null || seconds <= 0) return null;
  return (a === null || b < a ? b : b - a) / seconds;
}

// A quantile between two readings of a histogram, within its bucket by a straight line.
export function quantile(before, now, name, q, fits = () => true) {
  const grown = new Map();
  for (const [samples, sign] of [[now, 1], [before, -1]]) {
    for (const { labels, value } of samples.get(`${name}_bucket`) || []) {
      if (!fits(labels)) continue;
      const le = labels.le === "+Inf" ? Infinity : Number(labels.le);
      grown.set(le, (grown.get(le) || 0) + sign * value);
    }
  }
  const buckets = [...grown].sort((a, b) => a[0] - b[0]);
  const all = buckets.length ? buckets[buckets.length - 1][1] : 0;
  if (all <= 0) return null;
  let from = 0, below = 0;
  for (const [le, count] of buckets) {
    if (count >= q * all) return le === Infinity ? from : from + ((le - from) * (q * all - below)) / Math.max(count - below, 1e-9);
    from = le;
    below = count;
  }
  return null;
}
