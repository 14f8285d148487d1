// Numbers and their text, as reports/curves.py, answers.py and text.py have them; a test in the browser compares the two.
const DASH = "\u2013";

function number(value, digits = 2) {
  if (value === null || Number.isNaN(value)) return DASH;
  if (value === 0 || (Math.abs(value) >= 0.01 && Math.abs(value) < 1e4)) return String(Number(value.toPrecision(digits)));
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${mantissa}e${Number(exponent)}`;
}

function scaled(value, units) {
  if (value === null || Number.isNaN(value)) return DASH;
  const [size, unit] = units.find(([least]) => Math.abs(value) >= least) ?? units.at(-1);
  return `${number(value / size, 3)} ${unit}`;
}
const seconds = (value) => scaled(value, [[1, "s"], [1e-3, "ms"], [1e-6, "\u00b5s"]]);
const memory = (value) => scaled(value, [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]);
const starred = (shown, [, outside]) => (outside && shown !== DASH ? `${shown}*` : shown);
const listing = (words) => [words.slice(0, -1).join(", "), ...words.slice(-1)].filter(Boolean).join(" and ");
const quoted = (name) => `\`${name}\``;

function median(values) {
  const sorted = [...values].sort((one, two) => one - two), middle = sorted.length >> 1;
  if (!sorted.length) return NaN;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// What is found once for a case is kept: wishes and filters change, the data do not.
const found = new WeakMap();
function once(item, key, make) {
  if (!found.has(item)) found.set(item, new Map());
  const kept = found.get(item);
  if (!kept.has(key)) kept.set(key, make());
  return kept.get(key);
}
const columns = (run, item, place, metric = "relative_error") => once(item, `columns ${metric} ${place}`, () => findColumns(run, item, place, metric));
const spread = (run, item, place, metric = "relative_error") => once(item, `spread ${metric} ${place}`, () => findSpread(run, item, place, metric));
const points = (run, item) => once(item, "points", () => findPoints(run, item));

// The values of one estimator over the seeds, by depth: of a condensed run, the median alone.
function findColumns(run, item, place, metric) {
  const values = item[metric]?.[place];
  if (!values) return [];
  const width = values.length / item.depths.length;
  const seeds = run.condensed ? [0] : item.seeds.map((_, column) => column);
  return seeds.map((column) => item.depths.map((depth, row) => [depth, values[row * width + column]])
    .filter(([, value]) => value !== null)).filter((curve) => curve.length);
}

// Depth, median, least and greatest over the seeds, and whether some or all are at the bound.
function findSpread(run, item, place, metric) {
  const values = item[metric]?.[place];
  if (!values) return [];
  const width = values.length / item.depths.length, floors = new Set(metric === "relative_error" ? item.floor[place] : []);
  return item.depths.flatMap((depth, row) => {
    const known = [];
    let floored = 0;
    for (let column = 0; column < width; column += 1) {
      if (values[row * width + column] === null) continue;
      known.push(values[row * width + column]);
      floored += floors.has(row * width + column);
    }
    if (!known.length) return [];
    const [middle, least, greatest] = run.condensed ? known : [median(known), Math.min(...known), Math.max(...known)];
    return [{ depth, middle, least, greatest, floored: floored === known.length ? "at the bound" : floored ? "in part at the bound" : "ok" }];
  });
}

function depthTo(curve, goal) {
  let last = curve.length - 1;
  if (last < 0 || curve[last][1] > goal) return Infinity;
  while (last >= 0 && curve[last][1] <= goal) last -= 1;
  if (last < 0) return curve[0][0];
  const [[low, above], [high, below]] = curve.slice(last, last + 2);
  const before = Math.log(above), after = Math.log(Math.max(below, 1e-300));
  const reached = low + ((high - low) * (before - Math.log(goal))) / (before - after);
  return Math.min(high, Math.ceil(reached - 1e-9));
}

// A cost at a depth and whether it is extrapolated; `column` 1 is the cost itself, 3 and 4 are its quartiles.
function costAt(line, depth, column = 1) {
  if (!line || !Number.isFinite(depth)) return [NaN, false];
  const depths = line[0], values = line[column], [first, last] = line[2];
  if (depth < depths[0] || depth > depths.at(-1)) return [NaN, true];
  const next = Math.max(depths.findIndex((known) => known >= depth), 0), outside = depth < first || depth > last;
  if (depths[next] === depth) return [values[next], outside];
  const share = (depth - depths[next - 1]) / (depths[next] - depths[next - 1]);
  return [values[next - 1] + share * (values[next] - values[next - 1]), outside];
}

// The cost at a depth between measured ones, else NaN.
function costInside(line, depth) {
  const [value, outside] = costAt(line, depth);
  return outside ? NaN : value;
}

function reach(run, item, place, goal) {
  const depths = columns(run, item, place).map((curve) => depthTo(curve, goal)), depth = median(depths);
  const line = item.seconds[place];
  return {
    place, depth, depths, seconds: costAt(line, depth), memory: costAt(item.memory[place], depth),
    quartiles: depths.map((one) => [costAt(line, one, 3)[0], costAt(line, one, 4)[0]]),
  };
}

// Whether one is faster than the other on every seed, by more than the quartiles of both timings.
function beats(mine, theirs) {
  const known = theirs.map(([low], seed) => [mine[seed]?.[1], low])
    .filter(([high, low]) => high !== undefined && !(Number.isNaN(high) && Number.isNaN(low)));
  return known.length > 0 && known.every(([high, low]) => high < (Number.isNaN(low) ? Infinity : low));
}

const least = (items, key) => items.reduce((best, item) => (best === null || key(item) < key(best) ? item : best), null);

// The point with the least error, and of those whose errors are nearly the same the cheapest; as in reports/costs.py.
function nearest(found, cost = "seconds") {
  const bound = 1.01 * least(found, (point) => point.middle)?.middle, near = found.filter((point) => point.middle <= bound);
  const price = (point) => (Number.isNaN(point[cost]) ? Infinity : point[cost]);
  return near.sort((one, two) => price(one) - price(two) || one.middle - two.middle)[0];
}

function findPoints(run, item) {
  return run.estimators.flatMap((_, place) => {
    const rows = spread(run, item, place);
    return rows.map((row, index) => ({
      place, ...row, seconds: costInside(item.seconds[place], row.depth), memory: costInside(item.memory[place], row.depth),
      last: index === rows.length - 1,
    }));
  });
}

// The same choice as reports/answers.py makes, for another wish: { error, seconds, memory }, without limits infinite.
function choose(run, item, wanted) {
  const goal = number(wanted.error, 1), blank = { place: -1, ties: [], error: DASH, depth: DASH, time: DASH, memory: DASH };
  const scored = run.estimators.map((_, place) => place).filter((place) => columns(run, item, place).length);
  if (!scored.length) return { ...blank, short: "Nothing was scored here." };
  const every = scored.map((place) => reach(run, item, place, wanted.error));
  const within = (limit, [cost]) => limit === Infinity || cost <= limit;
  const possible = every.filter((found) => Number.isFinite(found.depth));
  const reached = possible.filter((found) => within(wanted.seconds, found.seconds) && within(wanted.memory, found.memory));
  const timed = reached.filter((found) => !Number.isNaN(found.seconds[0]));
  if (!reached.length) return closest(run, item, wanted, possible.length > 0, blank);
  const best = timed.length ? least(timed, (found) => found.seconds[0]) : least(reached, (found) => found.depth);
  const ties = timed.filter((found) => found !== best && !beats(best.quartiles, found.quartiles))
    .map((found) => run.estimators[found.place]);
  const some = ties.length <= 2 ? ties.map(quoted) : [quoted(ties[0]), `${ties.length - 1} others`];
  const short = timed.length
    ? `Cheapest to an error of ${goal}${ties.length ? `; not distinguishable in time from ${listing(some)}` : ""}.`
    : `Fewest layers to an error of ${goal}; its time there is not known.`;
  const bounds = best.quartiles.flat().filter((bound) => !Number.isNaN(bound)).sort((one, two) => one - two).map(seconds);
  const shown = starred(seconds(best.seconds[0]), best.seconds);
  const range = new Set([seconds(best.seconds[0]), ...bounds]).size > 1 && shown !== DASH ? ` (${bounds[0]} to ${bounds.at(-1)})` : "";
  return {
    place: best.place, ties, short, error: `\u2264 ${goal}`, depth: best.depth.toFixed(0), time: `${shown}${range}`,
    memory: starred(memory(best.memory[0]), best.memory), key: best.seconds[0],
  };
}

function closest(run, item, wanted, elsewhere, blank) {
  const every = points(run, item), limited = wanted.seconds !== Infinity || wanted.memory !== Infinity;
  const found = every.filter((point) => (limited
    ? (wanted.seconds === Infinity || point.seconds <= wanted.seconds) && (wanted.memory === Infinity || point.memory <= wanted.memory)
    : point.last));
  if (!found.length) return { ...blank, short: "No measured gradient is within these limits." };
  const best = nearest(found);
  const within = limited && elsewhere ? "these limits" : `${Math.max(...every.map((point) => point.depth))} layers`;
  const time = costAt(item.seconds[best.place], best.depth), space = costAt(item.memory[best.place], best.depth);
  return {
    place: best.place, ties: [], short: `No estimator reaches ${number(wanted.error, 1)} within ${within}; this one comes closest.`,
    error: number(best.middle), depth: best.depth.toFixed(0), time: starred(seconds(time[0]), time),
    memory: starred(memory(space[0]), space), key: time[0],
  };
}

// The cheapest estimator that reaches an error: its place and the time, or the number of layers where no time is known.
function cheapest(run, item, goal) {
  const scored = run.estimators.map((_, place) => place).filter((place) => columns(run, item, place).length);
  const found = scored.map((place) => reach(run, item, place, goal)).filter((one) => Number.isFinite(one.depth));
  if (!found.length) return [-1, scored.length ? "not reached" : DASH];
  const timed = found.filter((one) => !Number.isNaN(one.seconds[0]));
  if (!timed.length) { const best = least(found, (one) => one.depth); return [best.place, `${best.depth.toFixed(0)} layers`]; }
  const best = least(timed, (one) => one.seconds[0]);
  const ties = timed.filter((one) => one !== best && !beats(best.quartiles, one.quartiles)).length;
  const others = ties ? `, not distinguishable from ${ties} other${ties > 1 ? "s" : ""}` : "";
  return [best.place, `${starred(seconds(best.seconds[0]), best.seconds)}${others}`];
}

// The most accurate estimator whose cost ("seconds" or "memory") was measured within a limit.
function mostAccurate(run, item, cost, limit) {
  const priced = points(run, item).filter((point) => !Number.isNaN(point[cost]));
  const best = nearest(priced.filter((point) => point[cost] <= limit), cost);
  return best ? [best.place, `error ${number(best.middle)}`] : [-1, priced.length ? "none" : DASH];
}
