// Numbers, their text and the choice, as text.py, curves.py and answers.py have them; a test in the browser compares.
const DASH = "\u2013";

function number(value, digits = 2) {
  if (value === null || Number.isNaN(value)) return DASH;
  const plain = value === 0 || (Math.abs(value) >= 0.01 && Math.abs(value) < 1e4);
  return plain ? String(Number(value.toPrecision(digits))) : value.toExponential(digits - 1).replace("+", "");
}

const scaled = (units) => (value, extrapolated = false) => {
  if (Number.isNaN(value)) return DASH;
  const [size, unit] = units.find(([least]) => Math.abs(value) >= least) ?? units.at(-1);
  return `${number(value / size, 3)} ${unit}${extrapolated ? "*" : ""}`;
};
const seconds = scaled([[1, "s"], [1e-3, "ms"], [1e-6, "\u00b5s"]]);
const memory = scaled([[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]);
const listing = (words) => [words.slice(0, -1).join(", "), ...words.slice(-1)].filter(Boolean).join(" and ");
const counted = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;
const range = (low, high) => `${number(low)} to ${number(high)}`;

function median(values) {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((one, two) => one - two), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

// The depths and errors of an estimator, seed by seed; of a condensed run, of the median alone.
function curves(item, place) {
  const rows = item.relative_error[place];
  return (rows[0]?.values ?? []).map((_, seed) => rows.filter(({ values }) => values[seed] !== null)
    .map(({ depth, values }) => [depth, values[seed]]));
}

function depthTo(curve, goal) {
  const last = curve.findLastIndex(([, error]) => error > goal);
  if (!curve.length) return NaN;
  if (last === curve.length - 1) return Infinity;
  if (last < 0) return curve[0][0];
  const [[low, above], [high, below]] = curve.slice(last);
  const before = Math.log(above), after = Math.log(Math.max(below, 1e-300));
  return Math.min(high, Math.ceil(low + ((high - low) * (before - Math.log(goal))) / (before - after) - 1e-9));
}

// A cost at a depth and whether it is extrapolated: column 1 of a line is the cost, 3 and 4 are its quartiles.
function costAt(line, depth, column = 1) {
  const depths = line?.[0] ?? [], next = depths.findIndex((known) => known >= depth);
  if (next < 0 || depth < depths[0]) return [NaN, true];
  const [first, last] = line[2], values = line[column].map((value) => value ?? NaN);
  const extrapolated = depth < first || depth > last;
  if (depths[next] === depth) return [values[next], extrapolated];
  const share = (depth - depths[next - 1]) / (depths[next] - depths[next - 1]);
  return [values[next - 1] + share * (values[next] - values[next - 1]), extrapolated];
}

function costInside(line, depth) {
  const [value, extrapolated] = costAt(line, depth);
  return extrapolated ? NaN : value;
}

// What an estimator needs to bring its error to a goal, in the median over the seeds.
function reach(item, place, goal) {
  const depths = curves(item, place).map((curve) => depthTo(curve, goal)), depth = Math.ceil(median(depths));
  const line = item.seconds[place], at = (one, column) => costAt(line, one, column)[0];
  // Without bounds where a time has too few samples for quartiles.
  const unknown = (one) => Number.isNaN(at(one, 3)) && !Number.isNaN(at(one, 1));
  const quartiles = (one) => (unknown(one) ? [-Infinity, Infinity] : [at(one, 3), at(one, 4)]);
  return {
    place, depth, seconds: costAt(line, depth), memory: costAt(item.memory[place], depth),
    quartiles: depths.map((one) => (Number.isNaN(one) ? null : quartiles(one))),
  };
}

// Whether one is faster than the other on every seed, by more than the quartiles of both timings.
function beats(mine, theirs) {
  const known = theirs.flatMap((pair, seed) => (pair && mine[seed] ? [[mine[seed][1], pair[0]]] : []))
    .filter(([high, low]) => !(Number.isNaN(high) && Number.isNaN(low)));
  return known.length > 0 && known.every(([high, low]) => high < (Number.isNaN(low) ? Infinity : low));
}

const price = (cost) => (Number.isNaN(cost) ? Infinity : cost);
const within = (limit, cost) => limit === Infinity || cost <= limit;

// The errors of a case with their costs, where these were measured.
function points(run, item) {
  return run.estimators.flatMap((_, place) => item.relative_error[place].map((row, index, rows) => ({
    ...row, place, last: index === rows.length - 1,
    seconds: costInside(item.seconds[place], row.depth), memory: costInside(item.memory[place], row.depth),
  })));
}

// The cheapest estimator that reaches an error within limits, else the one that comes closest.
function pick(run, item, { error, seconds: longest = Infinity, memory: largest = Infinity }) {
  const possible = run.estimators.map((_, place) => reach(item, place, error)).filter(({ depth }) => Number.isFinite(depth));
  const reached = possible.filter((found) => within(longest, found.seconds[0]) && within(largest, found.memory[0]));
  if (reached.length) {
    const [best] = [...reached].sort((one, two) => price(one.seconds[0]) - price(two.seconds[0]) || one.depth - two.depth);
    const timed = reached.filter((found) => found !== best && !Number.isNaN(found.seconds[0]));
    const ties = timed.filter((found) => !beats(best.quartiles, found.quartiles)).map(({ place }) => place);
    return { best, ties, reached: true };
  }
  const every = points(run, item), limited = longest !== Infinity || largest !== Infinity;
  const found = every.filter((row) => (limited ? within(longest, row.seconds) && within(largest, row.memory) : row.last));
  // Of errors that are nearly the same, by SAME_ERROR in answers.py, the cheapest.
  const least = Math.min(...found.map(({ middle }) => middle)), near = found.filter(({ middle }) => middle <= 1.01 * least);
  const [best] = near.sort((one, two) => price(one.seconds) - price(two.seconds) || one.middle - two.middle);
  return { best, ties: [], reached: false, beyond: limited && possible.length > 0, every };
}

// The choice in words, for the table of answers.
function answer(run, item, wish) {
  const { best, ties, reached, beyond, every } = pick(run, item, wish), goal = number(wish.error, 1);
  if (!best) {
    const short = every.length ? "No measured gradient is within these limits." : "Nothing was scored here.";
    return { name: "", error: DASH, depth: DASH, time: DASH, range: "", memory: DASH, short };
  }
  const { place, depth } = best, time = costAt(item.seconds[place], depth), space = costAt(item.memory[place], depth);
  const costs = { time: seconds(...time), range: "", memory: memory(...space) };
  const shown = { name: run.estimators[place], depth: depth.toFixed(0), ...costs };
  if (!reached) {
    const reason = beyond ? "these limits" : counted(Math.max(...every.map((row) => row.depth)), "layer");
    const short = `No estimator reaches ${goal} within ${reason}; this one comes closest.`;
    return { ...shown, error: number(best.middle), short };
  }
  const names = ties.map((tie) => `\`${run.estimators[tie]}\``);
  const some = listing(names.length > 2 ? [names[0], counted(names.length - 1, "other")] : names);
  const bounds = best.quartiles.flat().filter(Number.isFinite), ends = [Math.min(...bounds), Math.max(...bounds)];
  const [low, high] = ends.map((end) => seconds(end)), same = low === seconds(time[0]) && low === high;
  return {
    ...shown, error: `\u2264 ${goal}`, range: same || !bounds.length || shown.time === DASH ? "" : `(${low} to ${high})`,
    short: shown.time === DASH ? `Fewest layers to an error of ${goal}; its time there is not known.`
      : `Cheapest to an error of ${goal}${some && `; not distinguishable in time from ${some}`}.`,
  };
}

// The same for the table of budgets, each of which is an error or one limit: the estimator and its value.
function budget(run, item, wish) {
  const { best, ties, reached, every } = pick(run, item, { error: -Infinity, ...wish });
  const name = best ? run.estimators[best.place] : "";
  if (!reached && !every.length) return ["", DASH];
  if (!reached) return wish.error ? ["", "not reached"] : [name, best ? `error ${number(best.middle)}` : "none"];
  if (Number.isNaN(best.seconds[0])) return [name, counted(best.depth, "layer")];
  return [name, `${seconds(...best.seconds)}${ties.length ? `, not distinguishable from ${counted(ties.length, "other")}` : ""}`];
}
