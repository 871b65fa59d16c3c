// Helpers that inline code may use without defining them (language.md §6.4, §13 no. 39).

const operators = {
  "==": (a, b) => a === b,
  "!=": (a, b) => a !== b,
  ">": (a, b) => a > b,
  ">=": (a, b) => a >= b,
  "<": (a, b) => a < b,
  "<=": (a, b) => a <= b,
  in: (a, b) => Array.isArray(b) && b.includes(a),
  contains: (a, b) => (a ?? "").includes?.(b) ?? false,
};
const names = { eq: "==", "=": "==", "===": "==", equals: "==", ne: "!=", "!==": "!=", gt: ">", gte: ">=", lt: "<", lte: "<=" };
const written = /^\s*([\w$.]+)\s*(===?|!==?|>=|<=|>|<)\s*(.+?)\s*$/;

const at = (row, path) => String(path).split(".").reduce((value, key) => value?.[key], row);

function literal(text) {
  try {
    return JSON.parse(text.replace(/^'(.*)'$/, '"$1"'));
  } catch {
    return text;
  }
}

const helpers = {
  /** Whether a row meets `{field, operator, value}`, `{field: value, …}` or `field > value`. */
  evaluateCondition(row, condition) {
    if (typeof condition === "function") return Boolean(condition(row));
    if (typeof condition === "string") {
      return condition.split("&&").every((part) => {
        const found = written.exec(part);
        if (!found) return Boolean(at(row, part.trim()));
        const [, field, operator, value] = found;
        return operators[names[operator] ?? operator](at(row, field), literal(value));
      });
    }
    if (condition === null || typeof condition !== "object") return Boolean(condition);
    if (!("field" in condition)) {
      return Object.entries(condition).every(([field, value]) => at(row, field) === value);
    }
    const operator = condition.operator ?? condition.op ?? "==";
    const compare = operators[names[operator] ?? operator];
    if (!compare) throw new Error(`unknown operator: ${operator}`);
    return compare(at(row, condition.field), condition.value);
  },

  /** A new row: `{name: "path.in.the.old.one"}`. */
  mapFields: (row, mapping) =>
    Object.fromEntries(Object.entries(mapping ?? {}).map(([name, path]) => [name, at(row, path)])),

  /** A row for each group: `{group_by, field, operation}`; operations are sum, avg, min, max, count. */
  aggregate(rows, config = {}) {
    const keys = [config.group_by ?? config.groupBy ?? []].flat();
    const operation = config.operation ?? config.function ?? (config.field ? "sum" : "count");
    const groups = new Map();
    for (const row of rows) {
      const key = JSON.stringify(keys.map((name) => at(row, name) ?? null));
      groups.set(key, [...(groups.get(key) ?? []), row]);
    }
    return [...groups.values()].map((group) => {
      const values = group.map((row) => Number(at(row, config.field)));
      const sum = values.reduce((a, b) => a + b, 0);
      const results = {
        count: () => group.length,
        sum: () => sum,
        avg: () => sum / values.length,
        min: () => values.reduce((a, b) => Math.min(a, b)),
        max: () => values.reduce((a, b) => Math.max(a, b)),
      };
      if (!results[operation]) throw new Error(`unknown operation: ${operation}`);
      const name = config.as ?? (config.field ? `${operation}_${config.field}` : operation);
      const row = Object.fromEntries(keys.map((key) => [key, at(group[0], key)]));
      return { ...row, [name]: results[operation]() };
    });
  },

  /** -1, 0 or 1; numbers by size, everything else as text, and what is missing last. */
  compareValues(a, b) {
    if (a === b) return 0;
    if (a === null || a === undefined) return 1;
    if (b === null || b === undefined) return -1;
    if (typeof a === "number" && typeof b === "number") return a < b ? -1 : 1;
    return String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0;
  },
};

for (const [name, value] of Object.entries(helpers)) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}
