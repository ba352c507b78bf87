"use strict";
// Where the cells of a treemap lie: `arrange(nodes, x, y, w, h, put)` calls `put(node, x, y, w, h)`.
const arrange = (() => {
  // A squarified treemap (Bruls, Huizing, van Wijk 2000): rows whose worst cell is as square as can be.
  const squarify = (nodes, x, y, w, h, put) => {
    const weight = (node) => node.bytes * node.m;
    const rest = nodes.filter((node) => weight(node) > 0).sort((a, b) => weight(b) - weight(a));
    let total = rest.reduce((sum, node) => sum + weight(node), 0);
    let from = 0;
    while (from < rest.length && w > 0 && h > 0) {
      const side = Math.min(w, h);
      const scale = (w * h) / total;
      let to = from;
      let sum = 0;
      let worst = Infinity;
      while (to < rest.length) {
        const next = sum + weight(rest[to]);
        const area = next * scale;
        const most = weight(rest[from]) * scale;
        const least = weight(rest[to]) * scale;
        const ratio = Math.max((side * side * most) / (area * area), (area * area) / (side * side * least));
        if (ratio > worst) break;
        worst = ratio;
        sum = next;
        to++;
      }
      const thick = (sum * scale) / side;
      let along = 0;
      for (let i = from; i < to; i++) {
        const length = (weight(rest[i]) * scale) / thick;
        if (w >= h) put(rest[i], x, y + along, thick, length);
        else put(rest[i], x + along, y, length, thick);
        along += length;
      }
      if (w >= h) { x += thick; w -= thick; } else { y += thick; h -= thick; }
      total -= sum;
      from = to;
    }
  };

  // Layers and experts, which are of about one size, stay in their order: rows of cells, as text is read.
  const strips = (nodes, x, y, w, h, put) => {
    const weight = (node) => node.bytes * node.m;
    const total = nodes.reduce((sum, node) => sum + weight(node), 0);
    // As square as can be, but rather a little less than with a short last row.
    let [columns, least] = [1, Infinity];
    for (let i = 1; i <= nodes.length; i++) {
      const rows = Math.ceil(nodes.length / i);
      const cost = Math.abs(Math.log((w * rows) / (h * i))) + 2 * ((rows * i) / nodes.length - 1);
      if (cost < least) [columns, least] = [i, cost];
    }
    for (let from = 0; from < nodes.length; from += columns) {
      const line = nodes.slice(from, from + columns);
      const sum = line.reduce((all, node) => all + weight(node), 0);
      const high = (h * sum) / total;
      let along = x;
      for (const node of line) {
        const wide = (w * weight(node)) / sum;
        put(node, along, y, wide, high);
        along += wide;
      }
      y += high;
    }
  };
  return (nodes, x, y, w, h, put) => {
    const parts = nodes.filter((node) => node.bytes > 0);
    const sizes = parts.map((node) => node.bytes * node.m);
    const even = parts.length > 3 && parts.every((node) => /^[0-9{]/.test(node.n)) && Math.max(...sizes) <= 2 * Math.min(...sizes);
    (even ? strips : squarify)(parts, x, y, w, h, put);
  };
})();
