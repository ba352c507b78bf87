(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const $ = (id) => document.getElementById(id);
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Numbers as the rest of the page writes them.
  const count = (n) => n.toLocaleString("en-US");
  const size = (n) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    let value = n;
    while (value >= 999.5 && unit < 4) { value /= 1000; unit++; }
    return unit === 0 ? `${n} B` : `${value.toFixed(1)} ${units[unit]}`;
  };
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const tensors = (n) => (n === 1 ? "1 tensor" : `${count(n)} tensors`);
  const shape = (node) => `${data.formats[node.d]} [${node.s.join(", ")}]`;
  const isTensor = (node) => node.s !== undefined;

  // Names are shown without characters that end a line or turn the text around them.
  const plain = (text) => text.replace(/[\u0000-\u001f\u007f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
  data.title = plain(data.title);
  data.files = data.files.map(plain);

  // Sums, parents and full names; a tree is at most 33 deep.
  const all = [];
  const prepare = (node, parent) => {
    node.parent = parent;
    node.n = plain(node.n);
    if (node.k !== undefined) node.k = plain(node.k);
    node.path = parent && parent.path ? `${parent.path}.${node.n}` : node.n;
    node.m = node.m || 1;
    node.bytes = node.b || (node.x ? node.x[1] : 0);
    node.tensors = isTensor(node) && data.there[node.t] ? 1 : node.x ? node.x[0] : 0;
    all.push(node);
    for (const child of node.c || []) {
      prepare(child, node);
      node.bytes += child.bytes * child.m;
      node.tensors += child.tensors * child.m;
    }
  };
  const root = data.root;
  prepare(root, null);
  const times = (node) => {
    let n = 1;
    for (let at = node; at; at = at.parent) n *= at.m;
    return n;
  };

  // What a colour stands for.
  const LIGHT = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#8a93a3"];
  const DARK = ["#5b82e8", "#d9a21b", "#e8705d", "#5fb5a1", "#46a85a", "#df7ba4", "#a273de", "#7fa6e3", "#a67a60", "#717b8c"];
  const kindOf = (node) => {
    let at = node;
    if (at.parent && at.parent.n) at = at.parent;
    while (at.parent && at.parent.n && /^[0-9{]/.test(at.n)) at = at.parent;
    return at.n;
  };
  const MEANINGS = {
    module: kindOf,
    format: (node) => (isTensor(node) ? data.formats[node.d] : ""),
    file: (node) => (node.f === undefined ? "several" : data.files[node.f]),
    need: (node) => (isTensor(node) ? data.statuses[node.t] : ""),
  };
  let meaning = "module";
  let colours = new Map();
  const choose = () => {
    const sums = new Map();
    for (const node of all) {
      if (node.c && node.c.length) continue;
      const key = MEANINGS[meaning](node);
      sums.set(key, (sums.get(key) || 0) + node.bytes * times(node));
    }
    const keys = [...sums].filter((key) => key[1] > 0).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    colours = new Map(keys.slice(0, 9).map(([key], i) => [key, i]));
    const legend = $("legend");
    legend.replaceChildren();
    const total = Math.max(1, root.bytes);
    const entry = (name, colour, bytes) => {
      const item = make("li");
      const swatch = make("i");
      swatch.style.background = colour;
      item.append(swatch, `${name || "other"} ${(100 * bytes / total).toFixed(1)} %`);
      legend.append(item);
    };
    if (meaning === "file" && data.files.length > 9) {
      legend.append(make("li", "", "from the first file to the last:"));
      data.files.forEach((name, i) => { const swatch = make("i"); swatch.title = name; swatch.style.background = wheel(i); legend.lastElementChild.append(" ", swatch); });
      return;
    }
    keys.slice(0, 9).forEach(([key, bytes]) => entry(key, colourOf(key), bytes));
    const rest = keys.slice(9).reduce((sum, key) => sum + key[1], 0);
    if (rest > 0) entry("others", palette()[9], rest);
  };
  const palette = () => (dark.matches ? DARK : LIGHT);
  // Files have an order, and are often many: their colours go round the wheel.
  const wheel = (i) => {
    const part = (n) => {
      const k = (n + (i * 330) / data.files.length / 30) % 12;
      const light = dark.matches ? 0.52 : 0.62;
      const c = light - 0.55 * Math.min(light, 1 - light) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
      return Math.round(255 * c).toString(16).padStart(2, "0");
    };
    return `#${part(0)}${part(8)}${part(4)}`;
  };
  const colourOf = (key) => {
    if (meaning === "file" && data.files.length > 9 && fileNumber.has(key)) return wheel(fileNumber.get(key));
    return palette()[colours.has(key) ? colours.get(key) : 9];
  };
  const fileNumber = new Map(data.files.map((name, i) => [name, i]));
  const colour = (node) => colourOf(MEANINGS[meaning](node));
  const inkOn = (hex) => {
    const part = (i) => {
      const c = parseInt(hex.slice(i, i + 2), 16) / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    };
    const light = 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
    return light > 0.18 ? "#10131a" : "#ffffff";
  };

  const MOST = 6000;
  let zoomed = root;
  let picked = null;
  let drawn = 0;
  const draw = () => {
    const box = $("map");
    const svg = document.createElementNS(SVG, "svg");
    const w = box.clientWidth;
    const h = box.clientHeight;
    svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
    svg.setAttribute("aria-hidden", "true");
    drawn = 0;
    const rect = (node, x, y, rw, rh, className) => {
      const element = document.createElementNS(SVG, "rect");
      element.setAttribute("x", x.toFixed(1));
      element.setAttribute("y", y.toFixed(1));
      element.setAttribute("width", Math.max(0, rw).toFixed(1));
      element.setAttribute("height", Math.max(0, rh).toFixed(1));
      element.setAttribute("class", className + (node === picked ? " picked" : ""));
      element.node = node;
      svg.append(element);
      drawn++;
      return element;
    };
    const label = (text, x, y, width, fill, whole) => {
      const most = Math.floor((width - 8) / 6.3);
      if (most < 2 || (whole && text.length > most)) return;
      const element = document.createElementNS(SVG, "text");
      element.setAttribute("x", x.toFixed(1));
      element.setAttribute("y", y.toFixed(1));
      if (fill) element.setAttribute("fill", fill);
      else element.setAttribute("class", "head");
      element.textContent = text.length > most ? `${text.slice(0, most - 1)}…` : text;
      svg.append(element);
    };
    const cell = (node, x, y, cw, ch) => {
      if (cw < 1 || ch < 1) return;
      // A chain of modules with one child each is one frame with all their names.
      let name = node.n;
      let inner = node;
      let same = node.m;
      while (inner.c && inner.c.length === 1 && !isTensor(inner) && inner.c[0].c && inner.c[0].c.length) {
        inner = inner.c[0];
        name += `.${inner.n}`;
        same *= inner.m;
      }
      const parts = (inner.c || []).filter((child) => child.bytes > 0);
      // A weight with a bias or with scales is one cell.
      const single = parts.some((child) => isTensor(child) && child.bytes * child.m > 0.85 * inner.bytes);
      if (parts.length === 0 || single && inner !== zoomed || drawn > MOST || cw * ch < 60) {
        const fill = colour(biggest(inner));
        const element = rect(node, x, y, cw, ch, "leaf");
        element.setAttribute("fill", fill);
        if (ch > 14) label(leafName(node, name), x + 4, y + Math.min(14, ch / 2 + 4), cw, inkOn(fill));
        if (ch > 32) label(size(node.bytes * times(node)), x + 4, y + 28, cw, inkOn(fill), true);
        return;
      }
      const framed = cw > 44 && ch > 46;
      const edge = framed ? 2 : cw > 9 && ch > 9 ? 1 : 0;
      rect(inner, x, y, cw, ch, "frame");
      const top = framed ? 16 : edge;
      if (framed) label(same > 1 ? `${name} × ${count(same)}` : name, x + 4, y + 12, cw);
      arrange(parts, x + edge, y + top, cw - 2 * edge, ch - top - edge, cell);
    };
    const biggest = (node) => {
      let at = node;
      while (at.c && at.c.length) {
        at = at.c.reduce((a, b) => (b.bytes * b.m > a.bytes * a.m ? b : a));
      }
      return at;
    };
    const leafName = (node, name) => {
      const known = isTensor(node) && node.parent && node.parent !== zoomed && node.parent.n;
      const full = known && !/^[0-9{]/.test(known) ? `${known}.${name}` : name;
      return node.m > 1 ? `${full} × ${count(node.m)}` : full;
    };
    if (zoomed.c && zoomed.c.length) arrange(zoomed.c, 0, 0, w, h, cell);
    else if (zoomed.bytes > 0) cell(zoomed, 0, 0, w, h);
    box.querySelector("svg")?.remove();
    box.prepend(svg);
    crumbs($("crumbs"), zoomed, true);
  };

  const crumbs = (place, node, current) => {
    const chain = [];
    for (let at = node; at; at = at.parent) chain.unshift(at);
    place.replaceChildren();
    chain.forEach((at, i) => {
      if (i > 1) place.append(".");
      const button = make("button", "", at.parent ? at.n : data.title);
      button.type = "button";
      if (current && at === node) button.setAttribute("aria-current", "location");
      button.addEventListener("click", () => zoom(at));
      place.append(button);
      if (i === 0 && chain.length > 1) place.append(" › ");
    });
  };
  const zoom = (node) => {
    zoomed = node.c && node.c.length ? node : node.parent || node;
    draw();
  };

  // The facts about one node.
  const facts = (node) => {
    const list = [];
    const add = (name, value) => list.push([name, value]);
    if (isTensor(node)) {
      add("tensor", shape(node));
      add("elements", count(node.s.reduce((product, dim) => product * dim, 1)));
    }
    const n = times(node);
    if (n > 1) add("equal ones", count(n));
    if (!isTensor(node)) add("tensors", count(node.tensors * n));
    add("bytes", `${size(node.bytes * n)}${n > 1 ? `, ${size(node.bytes)} each` : ""} (${(100 * node.bytes * n / Math.max(1, root.bytes)).toFixed(2)} %)`);
    if (node.k !== undefined) add(data.statuses[node.t] === "tied" ? "is" : "key in the file", node.k);
    if (node.o) add("where", `${data.files[node.f]}, bytes ${count(node.o[0])} to ${count(node.o[1])}`);
    else {
      const files = filesOf(node);
      if (files.length) add(files.length === 1 ? "file" : "files", files.slice(0, 6).map((i) => data.files[i]).join(", ") + (files.length > 6 ? ` and ${files.length - 6} more` : ""));
    }
    if (data.model && isTensor(node)) add("the model", { needed: "needs it", missing: "needs it, and it is not there", unneeded: "does not need it", tied: "has the tensor of its twin for it" }[data.statuses[node.t]] || "");
    return list;
  };
  const filesOf = (node) => {
    const found = new Set(node.fs || (node.f === undefined ? [] : [node.f]));
    for (const child of node.c || []) for (const file of filesOf(child)) found.add(file);
    return [...found].sort((a, b) => a - b);
  };
  const pick = (node) => {
    picked = node;
    crumbs($("picked-name"), node, false);
    const list = $("picked");
    list.replaceChildren();
    for (const [name, value] of facts(node)) list.append(make("dt", "", name), make("dd", "", value));
    for (const element of $("map").querySelectorAll("rect")) element.classList.toggle("picked", element.node === node);
  };

  // The tree; what is closed is not made.
  const STEP = 400;
  const row = (node, depth) => {
    const line = make("div", "row");
    const name = make("span", "name", node.m > 1 && !/^\{/.test(node.n) ? `${node.n} × ${count(node.m)}` : node.n || data.title);
    name.title = node.path;
    name.style.paddingLeft = `${depth * 1.15}em`;
    if (data.model && isTensor(node) && data.statuses[node.t] !== "needed") name.append(make("span", `badge ${data.statuses[node.t]}`, data.statuses[node.t]));
    const files = filesOf(node);
    const run = files.length > 1 && files[files.length - 1] - files[0] === files.length - 1;
    const where = files.length === 1 ? `file ${files[0] + 1}` : run ? `files ${files[0] + 1}–${files[files.length - 1] + 1}` : files.length ? `${files.length} files` : "";
    const file = make("span", "soft", data.files.length > 1 ? where : "");
    file.title = files.slice(0, 20).map((i) => data.files[i]).join("\n");
    const total = node.bytes * times(node);
    const bar = document.createElementNS(SVG, "svg");
    bar.setAttribute("class", "bar");
    bar.setAttribute("viewBox", "0 0 100 8");
    bar.setAttribute("preserveAspectRatio", "none");
    bar.setAttribute("aria-hidden", "true");
    const fill = document.createElementNS(SVG, "rect");
    fill.setAttribute("height", "8");
    fill.setAttribute("width", (100 * total / Math.max(1, root.bytes)).toFixed(2));
    bar.append(fill);
    const what = isTensor(node) ? shape(node) : tensors(node.tensors * times(node));
    line.append(name, make("span", "soft", what), make("span", "n", total ? size(total) : ""), bar, file);
    return line;
  };
  const item = (node, depth) => {
    const element = make("li");
    element.setAttribute("role", "treeitem");
    element.setAttribute("aria-level", depth + 1);
    element.setAttribute("aria-selected", "false");
    element.tabIndex = -1;
    if (node.c && node.c.length) element.setAttribute("aria-expanded", "false");
    element.node = node;
    element.depth = depth;
    node.element = element;
    element.append(row(node, depth));
    return element;
  };
  const fill = (group, node, depth, from) => {
    node.c.slice(from, from + STEP).forEach((child) => group.append(item(child, depth)));
    if (node.c.length > from + STEP) {
      const more = make("li");
      const button = make("button", "", `show ${count(Math.min(STEP, node.c.length - from - STEP))} more`);
      button.type = "button";
      button.addEventListener("click", () => { more.remove(); fill(group, node, depth, from + STEP); });
      more.append(button);
      group.append(more);
    }
  };
  const open = (element) => {
    if (element.getAttribute("aria-expanded") !== "false") return;
    element.setAttribute("aria-expanded", "true");
    const group = make("ul");
    group.setAttribute("role", "group");
    fill(group, element.node, element.depth + 1, 0);
    element.append(group);
  };
  const close = (element) => {
    if (element.getAttribute("aria-expanded") !== "true") return;
    element.setAttribute("aria-expanded", "false");
    element.querySelector("ul").remove();
  };
  const tree = $("tree");
  let selected = null;
  const select = (element, focus) => {
    if (selected) { selected.setAttribute("aria-selected", "false"); selected.tabIndex = -1; }
    selected = element;
    element.setAttribute("aria-selected", "true");
    element.tabIndex = 0;
    if (focus) element.focus();
    pick(element.node);
  };
  const reveal = (node) => {
    const chain = [];
    for (let at = node; at; at = at.parent) chain.unshift(at);
    let element = tree.firstElementChild;
    for (const at of chain.slice(1)) {
      open(element);
      const siblings = element.querySelector("ul");
      while (![...siblings.children].some((child) => child.node === at) && siblings.lastElementChild.firstElementChild.tagName === "BUTTON") {
        siblings.lastElementChild.firstElementChild.click();
      }
      element = at.element;
    }
    select(element, false);
    element.firstElementChild.scrollIntoView({ block: "nearest" });
  };
  const visible = () => [...tree.querySelectorAll("li[role=treeitem]")];
  tree.addEventListener("click", (event) => {
    const element = event.target.closest("li[role=treeitem]");
    if (!element) return;
    select(element, true);
    (element.getAttribute("aria-expanded") === "true" ? close : open)(element);
  });
  tree.addEventListener("keydown", (event) => {
    const element = event.target.closest("li[role=treeitem]");
    if (!element || event.ctrlKey || event.altKey || event.metaKey) return;
    const rows = visible();
    const at = rows.indexOf(element);
    const expanded = element.getAttribute("aria-expanded");
    const keys = {
      ArrowDown: () => rows[at + 1],
      ArrowUp: () => rows[at - 1],
      Home: () => rows[0],
      End: () => rows[rows.length - 1],
      ArrowRight: () => { if (expanded === "true") return rows[at + 1]; open(element); return element; },
      ArrowLeft: () => { if (expanded === "true") { close(element); return element; } return element.parentElement.closest("li[role=treeitem]"); },
      Enter: () => { zoom(element.node); return element; },
      " ": () => { (expanded === "true" ? close : open)(element); return element; },
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    const next = keys[event.key]();
    if (next) select(next, true);
  });

  // Names that hold what is typed.
  const FOUND = 200;
  let typing = 0;
  const search = () => {
    const text = $("filter").value.trim().toLowerCase();
    const results = $("results");
    results.replaceChildren();
    tree.hidden = text !== "";
    results.hidden = text === "";
    $("found").textContent = "";
    if (text === "") return;
    const hits = all.filter((node) => node.path.toLowerCase().includes(text) || (node.k || "").toLowerCase().includes(text));
    $("found").textContent = `${count(hits.length)} found${hits.length > FOUND ? `, the first ${FOUND} are shown` : ""}`;
    for (const node of hits.slice(0, FOUND)) {
      const element = make("li");
      const button = make("button", "", node.path);
      button.type = "button";
      button.addEventListener("click", () => { $("filter").value = ""; search(); reveal(node); node.element.focus(); });
      element.append(button, ` ${isTensor(node) ? shape(node) : tensors(node.tensors)}, ${size(node.bytes)}`);
      results.append(element);
    }
  };
  $("filter").addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(search, 120); });

  // The treemap's pointer.
  const box = $("map");
  const tip = $("tip");
  box.addEventListener("mousemove", (event) => {
    const node = event.target.node;
    tip.hidden = !node;
    if (!node) return;
    const n = times(node);
    tip.textContent = `${node.path || data.title}${isTensor(node) ? `  ${shape(node)}` : ""}  ${size(node.bytes * n)}`;
    const area = box.getBoundingClientRect();
    const x = event.clientX - area.left + 14;
    const y = event.clientY - area.top + 14;
    tip.style.left = `${Math.max(0, Math.min(x, area.width - tip.offsetWidth - 4))}px`;
    tip.style.top = `${Math.max(0, Math.min(y, area.height - tip.offsetHeight - 4))}px`;
  });
  box.addEventListener("mouseleave", () => { tip.hidden = true; });
  box.addEventListener("click", (event) => {
    const node = event.target.node;
    if (!node) return;
    if (event.target.classList.contains("frame")) zoom(node);
    pick(node);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && zoomed.parent) zoom(zoomed.parent);
  });
  $("colour").addEventListener("change", (event) => { meaning = event.target.value; choose(); draw(); });
  dark.addEventListener("change", () => { choose(); draw(); });
  let waiting = 0;
  addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(draw); });

  // Open what fits on a screen.
  tree.append(item(root, 0));
  let next = [tree.firstElementChild];
  let shown = 1;
  while (next.length) {
    const element = next.shift();
    const children = element.node.c || [];
    if (children.length === 0 || shown + children.length > 24) continue;
    open(element);
    shown += children.length;
    next.push(...element.querySelector("ul").children);
  }
  select(tree.firstElementChild, false);
  choose();
  draw();
})();
