// What pages gain by a script: sorted and searched tables, the table of all entities,
// and a map that names its points. Pages are whole without it.
"use strict";
(() => {
  const PAGE_ROWS = 25;
  const SEARCHED_FROM = 15;
  const FOLDED_FROM = 10;

  const make = (tag, attributes = {}, ...content) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name in element && typeof value !== "string") element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...content);
    return element;
  };
  const shownNumber = (n, digits) =>
    n.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: 2 });
  const whole = (n) => shownNumber(n, 0);

  // ---- Sorting ----------------------------------------------------------------------

  // Missing values are last in either direction; texts with figures as people count.
  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (a, b, direction) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (typeof a === "number" ? a - b : collator.compare(a, b));
  };

  const numberIn = (text) => {
    const found = text.match(/[-\u2212]?\d[\d,]*\.?\d*/);
    return found && Number(found[0].replaceAll(",", "").replace("\u2212", "-"));
  };

  // Make a heading a button that tells its direction; `sort` gets 1 or -1.
  const sortButton = (heading, isNumber, sort) => {
    const button = make("button", { type: "button", class: "sort" });
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const first = isNumber ? "descending" : "ascending";
      const other = isNumber ? "ascending" : "descending";
      const now = before === first ? other : first;
      for (const cell of heading.parentElement.cells) cell.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", now);
      sort(now === "ascending" ? 1 : -1);
    });
  };

  // Rows of class `part` stay below the row that they divide, and `rest` at the end.
  const blocksOf = (body) => {
    const blocks = [];
    for (const row of body.rows) {
      if (row.classList.contains("rest")) continue;
      if (row.classList.contains("part") && blocks.length) blocks.at(-1).push(row);
      else blocks.push([row]);
    }
    return blocks;
  };

  const valueOf = (cell, isNumber) => {
    const text = (cell.dataset.sort ?? cell.textContent).trim();
    if (isNumber) return numberIn(text);
    return text === "" || text === "\u2013" ? null : text;
  };

  const enhanceTable = (table) => {
    const body = table.tBodies[0];
    if (!table.tHead || body.rows.length < 3) return;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      if (!heading.textContent.trim() || heading.classList.contains("unsorted")) return;
      const isNumber = heading.classList.contains("number");
      sortButton(heading, isNumber, (direction) => {
        const keyed = blocksOf(body).map((rows) => [
          valueOf(rows[0].cells[column], isNumber),
          rows,
        ]);
        keyed.sort(([a], [b]) => compare(a, b, direction));
        body.prepend(...keyed.flatMap(([, rows]) => rows));
      });
    });
    if (table.closest(".segments")) foldParts(table);
    else if (body.rows.length >= SEARCHED_FROM) addSearch(table, body);
  };

  // Where there are many rows, those that divide a segment open on demand.
  const foldParts = (table) => {
    const body = table.tBodies[0];
    if (body.rows.length < FOLDED_FROM) return;
    for (const [row, ...parts] of blocksOf(body)) {
      if (!parts.length) continue;
      const button = make("button", { type: "button", class: "fold" }, `${parts.length} sub-segments`);
      const open = (isOpen) => {
        button.setAttribute("aria-expanded", isOpen);
        for (const part of parts) part.classList.toggle("closed", !isOpen);
      };
      button.addEventListener("click", () => open(button.getAttribute("aria-expanded") === "false"));
      row.cells[0].append(button);
      open(false);
    }
  };

  const addSearch = (table, body) => {
    const input = make("input", { type: "search", autocomplete: "off" });
    const status = make("span", { class: "status", role: "status" });
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let shown = 0;
      for (const row of body.rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += row.hidden ? 0 : 1;
      }
      status.textContent = wanted ? `${whole(shown)} of ${whole(body.rows.length)} rows` : "";
    });
    const label = make("label", {}, "Search this table ", input);
    table.before(make("div", { class: "tools" }, label, status));
  };

  // ---- The table of all entities ----------------------------------------------------

  const unpacked = async (text) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  };

  class Explorer {
    constructor(head, data) {
      Object.assign(this, head);
      this.data = data;
      this.total = data[this.columns[0].key].length;
      this.filters = new Map();
      this.wanted = "";
      this.page = 0;
      this.listeners = [];
      this.order = Uint32Array.from({ length: this.total }, (_, place) => place);
      this.lower = data[this.columns[0].key].map((id) => id.toLowerCase());
    }

    // What a column says of an entity; a dash where nothing is known.
    text(column, place) {
      const value = this.data[column.key][place];
      if (value === null) return "\u2013";
      if (column.values) return value < 0 ? "\u2013" : column.values[value];
      return column.digits === null ? value : shownNumber(value, column.digits);
    }

    sort(column, direction) {
      const values = this.data[column.key];
      const value = column.values
        ? (place) => (values[place] < 0 ? null : values[place])
        : (place) => values[place];
      this.order.sort((a, b) => compare(value(a), value(b), direction) || a - b);
    }

    isShown(place) {
      for (const [key, value] of this.filters) {
        if (this.data[key][place] !== value) return false;
      }
      return this.lower[place].includes(this.wanted);
    }

    update() {
      this.found = this.order.filter((place) => this.isShown(place));
      this.page = 0;
      this.draw();
      for (const listener of this.listeners) listener();
    }

    // Show those of one text in a column of few; another text takes the filter away.
    filter(key, text) {
      const column = this.columns.find((one) => one.key === key);
      const value = column.values.indexOf(text);
      if (value < 0) this.filters.delete(key);
      else this.filters.set(key, value);
      const select = this.selects.get(key);
      if (select) select.value = value < 0 ? "" : text;
      this.update();
    }

    // The same, whatever was searched and filtered before.
    filterAlone(key, text) {
      this.search.value = this.wanted = "";
      this.filters.clear();
      for (const select of this.selects.values()) select.value = "";
      this.filter(key, text);
    }

    build(place) {
      this.selects = new Map();
      this.search = make("input", { type: "search", autocomplete: "off" });
      this.search.addEventListener("input", () => {
        this.wanted = this.search.value.trim().toLowerCase();
        this.update();
      });
      const tools = make("div", { class: "tools" }, make("label", {}, `Find a ${this.noun} `, this.search));
      for (const column of this.columns.filter((one) => one.is_filter)) {
        const every = make("option", { value: "" }, "all");
        const options = column.values.map((value) => make("option", { value }, value));
        const select = make("select", {}, every, ...options);
        select.addEventListener("change", () => this.filter(column.key, select.value));
        this.selects.set(column.key, select);
        tools.append(make("label", {}, `${column.title} `, select));
      }
      this.status = make("span", { class: "status", role: "status" });
      tools.append(this.status);
      const headings = this.columns.map((column) => {
        const heading = make("th", { scope: "col" }, column.title);
        const isNumber = column.digits !== null;
        if (isNumber) heading.className = "number";
        sortButton(heading, isNumber, (direction) => {
          this.sort(column, direction);
          this.update();
        });
        return heading;
      });
      this.body = make("tbody");
      const head = make("thead", {}, make("tr", {}, ...headings));
      const caption = `All ${this.plural}`;
      const table = make("table", {}, head, this.body);
      this.back = make("button", { type: "button" }, "Previous");
      this.next = make("button", { type: "button" }, "Next");
      this.back.addEventListener("click", () => this.turn(-1));
      this.next.addEventListener("click", () => this.turn(1));
      this.where = make("span", { class: "status" });
      const pages = make("div", { class: "tools pages" }, this.back, this.next, this.where);
      const scroll = make("div", { class: "card scroll", tabindex: "0", role: "group", "aria-label": caption }, table);
      place.append(tools, scroll, pages);
      place.hidden = false;
      this.update();
    }

    turn(step) {
      this.page += step;
      this.draw();
    }

    draw() {
      const from = this.page * PAGE_ROWS;
      const rows = [...this.found.slice(from, from + PAGE_ROWS)].map((place) => {
        const cells = this.columns.map((column, number) => {
          const cell = number ? make("td") : make("th", { scope: "row" });
          if (column.digits !== null) cell.className = "number";
          cell.dataset.label = column.title;
          const text = this.text(column, place);
          const details = column.is_filter && document.getElementById(`segment-${text.split(" ")[0]}`);
          cell.append(details ? make("a", { href: `#${details.id}` }, text) : text);
          return cell;
        });
        return make("tr", {}, ...cells);
      });
      this.body.replaceChildren(...rows);
      const n = this.found.length;
      this.status.textContent = `${whole(n)} of ${whole(this.total)} ${this.plural}`;
      this.where.textContent = n ? `${whole(from + 1)} to ${whole(Math.min(from + PAGE_ROWS, n))}` : "";
      this.back.disabled = from === 0;
      this.next.disabled = from + PAGE_ROWS >= n;
    }
  }

  // ---- The map ----------------------------------------------------------------------

  // Points are placed from 0 to 1023 either way; below 0 they lie outside the view.
  const RANGE = 1023;
  const MARGIN = 8;
  const NEAR = 12;

  class EntityMap {
    constructor(figure, explorer) {
      this.explorer = explorer;
      this.canvas = make("canvas", { role: "img", "aria-label": figure.querySelector("img").alt });
      this.tip = make("div", { class: "tip", hidden: true });
      figure.querySelector("img").after(make("div", { class: "canvas" }, this.canvas, this.tip));
      figure.classList.add("drawn");
      this.enliven(figure.querySelector(".legend"));
      this.canvas.addEventListener("pointermove", (event) => this.point(event));
      this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
      this.canvas.addEventListener("click", (event) => this.choose(event));
      explorer.listeners.push(() => this.draw());
      new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    }

    // Names of the legend become buttons: one shows its entities alone, or all again.
    enliven(legend) {
      const { map, columns, filters } = this.explorer;
      const { key, values } = columns.find((column) => column.key === map.key);
      for (const entry of legend.querySelectorAll("span")) {
        const code = values.indexOf(entry.textContent);
        const button = make("button", { type: "button", "aria-pressed": "false" }, ...entry.childNodes);
        button.addEventListener("click", () => {
          this.explorer.filter(key, filters.get(key) === code ? "" : values[code]);
        });
        this.explorer.listeners.push(() => {
          button.setAttribute("aria-pressed", filters.get(key) === code);
        });
        entry.replaceWith(button);
      }
    }

    // Where a place lies on the canvas, in its pixels.
    spot(x, y) {
      return [
        MARGIN + (x / RANGE) * (this.width - 2 * MARGIN),
        MARGIN + (1 - y / RANGE) * (this.height - 2 * MARGIN),
      ];
    }

    at(place) {
      return this.spot(this.explorer.data.x[place], this.explorer.data.y[place]);
    }

    draw() {
      const ratio = devicePixelRatio || 1;
      this.width = this.canvas.parentElement.clientWidth;
      this.height = Math.round(this.width * 0.62);
      if (!this.width) return;
      this.canvas.width = this.width * ratio;
      this.canvas.height = this.height * ratio;
      this.canvas.style.height = `${this.height}px`;
      const context = this.canvas.getContext("2d");
      context.scale(ratio, ratio);
      const { data, map } = this.explorer;
      const size = Math.min(Math.max(160 / Math.sqrt(this.explorer.total), 1.4), 4.5);
      const pale = Math.min(Math.max(1500 / this.explorer.total, 0.02), 0.12);
      const isShown = new Uint8Array(this.explorer.total);
      for (const place of this.explorer.found) isShown[place] = 1;
      for (const wanted of [0, 1]) {
        context.globalAlpha = wanted ? 0.8 : pale;
        for (let place = 0; place < this.explorer.total; place += 1) {
          if (isShown[place] !== wanted || data.x[place] < 0) continue;
          const [left, top] = this.at(place);
          context.fillStyle = map.colours[data[map.key][place]];
          context.fillRect(left - size / 2, top - size / 2, size, size);
        }
      }
      context.globalAlpha = 1;
      this.write(context);
    }

    write(context) {
      const style = getComputedStyle(this.canvas);
      context.font = `600 13px ${style.fontFamily}`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.lineWidth = 4;
      context.lineJoin = "round";
      context.strokeStyle = style.backgroundColor;
      context.fillStyle = style.color;
      for (const [x, y, text] of this.explorer.map.labels) {
        const half = context.measureText(text).width / 2 + 4;
        const [middle, top] = this.spot(x, y);
        const left = Math.min(Math.max(middle, half), this.width - half);
        context.strokeText(text, left, top);
        context.fillText(text, left, top);
      }
    }

    nearest(event) {
      const box = this.canvas.getBoundingClientRect();
      const left = event.clientX - box.left;
      const top = event.clientY - box.top;
      let best = NEAR * NEAR;
      let found = -1;
      for (const place of this.explorer.found) {
        if (this.explorer.data.x[place] < 0) continue;
        const [x, y] = this.at(place);
        const distance = (x - left) ** 2 + (y - top) ** 2;
        if (distance < best) [best, found] = [distance, place];
      }
      return found;
    }

    point(event) {
      const place = this.nearest(event);
      this.tip.hidden = place < 0;
      if (place < 0) return;
      const told = this.explorer.columns
        .map((column) => [column, this.explorer.text(column, place)])
        .filter(([, text]) => text !== "\u2013")
        .map(([column, text], number) => (number ? `${column.title}: ${text}` : text));
      this.tip.replaceChildren(...told.map((line) => make("div", {}, line)));
      const [x, y] = this.at(place);
      this.tip.style.left = `${Math.min(x + 12, this.width - this.tip.offsetWidth)}px`;
      this.tip.style.top = `${Math.max(y - this.tip.offsetHeight - 8, 0)}px`;
    }

    choose(event) {
      const place = this.nearest(event);
      if (place < 0) return;
      const { explorer } = this;
      explorer.search.value = explorer.data[explorer.columns[0].key][place];
      explorer.search.dispatchEvent(new Event("input"));
      explorer.search.focus();
    }
  }

  const explore = async () => {
    const source = document.getElementById("packed");
    if (!source || !("DecompressionStream" in window)) return;
    const head = JSON.parse(source.textContent);
    const explorer = new Explorer(head, await unpacked(head.data));
    explorer.build(document.getElementById("explorer"));
    document.documentElement.classList.add("explored");
    const figure = document.querySelector("figure[data-map]");
    if (figure && head.map) new EntityMap(figure, explorer).draw();
    for (const link of document.querySelectorAll("a[data-filter]")) {
      link.addEventListener("click", () => {
        explorer.filterAlone(link.dataset.filter, link.dataset.value);
      });
    }
  };

  for (const table of document.querySelectorAll("table:not(.ordered)")) enhanceTable(table);
  explore();
})();
