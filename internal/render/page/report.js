"use strict";
(() => {
  document.getElementById("scriptless").remove();
  const data = JSON.parse(document.getElementById("rows").textContent);
  const { jobs, hubs, outcomes, rows } = data;
  // A row: job, device, hub, outcome, attempts, start in ms since the run's, duration in ms, text.
  const [JOB, DEVICE, HUB, OUTCOME, ATTEMPTS, START, TOOK, TEXT] = [0, 1, 2, 3, 4, 5, 6, 7];
  const size = 100;
  const began = Date.parse(data.began);
  const state = { text: "", job: "", outcomes: new Set(), sort: -1, down: false, page: 0 };
  let shown = rows;

  const columns = [
    { name: "Device", of: DEVICE },
    { name: "Hub", of: HUB, show: (r) => hubs[r[HUB]], skip: hubs.length < 2 },
    { name: "Job", of: JOB, show: (r) => jobs[r[JOB]], skip: jobs.length < 2 },
    { name: "Outcome", of: OUTCOME, show: (r) => outcomes[r[OUTCOME]] },
    { name: "Attempts", of: ATTEMPTS, number: true },
    { name: "Started", of: START, time: true, show: (r) => (r[START] < 0 ? "" : new Date(began + r[START]).toISOString().slice(11, 23)) },
    { name: "Took", of: TOOK, number: true, show: (r) => (r[START] < 0 ? "" : took(r[TOOK])) },
    { name: "Answer, change or error", of: TEXT, text: true },
  ].filter((c) => !c.skip);

  const make = (tag, text, attributes = {}) => {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
    return e;
  };
  const number = new Intl.NumberFormat("en").format;
  const took = (ms) => (ms < 1000 ? ms + " ms" : ms < 60000 ? (ms / 1000).toFixed(2) + " s" : number(Math.round(ms / 1000)) + " s");

  function choose() {
    const text = state.text.toLowerCase();
    shown = rows.filter((r) =>
      (state.job === "" || r[JOB] === +state.job) &&
      (state.outcomes.size === 0 || state.outcomes.has(r[OUTCOME])) &&
      (text === "" || r[DEVICE].toLowerCase().includes(text) || r[TEXT].toLowerCase().includes(text)));
    if (state.sort >= 0) {
      const sign = state.down ? -1 : 1;
      const key = state.sort;
      shown = shown.map((r, i) => [r, i]).sort(([a, i], [b, j]) => (a[key] < b[key] ? -sign : a[key] > b[key] ? sign : i - j)).map(([r]) => r);
    }
    state.page = 0;
    draw();
  }

  function draw() {
    const body = document.querySelector("#table tbody");
    const from = state.page * size;
    body.replaceChildren(...shown.slice(from, from + size).map((r) => {
      const tr = make("tr");
      columns.forEach((c, i) => {
        const value = c.show ? c.show(r) : r[c.of];
        const cell = make(i === 0 ? "th" : "td", c.of === OUTCOME ? undefined : String(value), i === 0 ? { scope: "row" } : {});
        if (c.of === OUTCOME) cell.append(make("span", undefined, { class: "dot " + value }), value);
        if (c.number) cell.className = "number";
        if (c.text) cell.className = "text";
        if (c.time) cell.className = "time";
        tr.append(cell);
      });
      return tr;
    }));
    const pages = Math.max(1, Math.ceil(shown.length / size));
    document.getElementById("page").textContent = "Page " + number(state.page + 1) + " of " + number(pages);
    document.getElementById("previous").disabled = state.page === 0;
    document.getElementById("next").disabled = state.page + 1 >= pages;
    document.getElementById("found").textContent = shown.length === rows.length
      ? number(rows.length) + " rows" : number(shown.length) + " of " + number(rows.length) + " rows";
    for (const th of document.querySelectorAll("#table thead th")) {
      th.setAttribute("aria-sort", +th.dataset.of !== state.sort ? "none" : state.down ? "descending" : "ascending");
      th.firstChild.textContent = th.dataset.name + (+th.dataset.of !== state.sort ? "" : state.down ? " ▼" : " ▲");
    }
  }

  const head = document.querySelector("#table thead tr");
  for (const c of columns) {
    const th = make("th", undefined, { scope: "col", "data-of": c.of, "data-name": c.name });
    const button = make("button", c.name, { type: "button" });
    button.addEventListener("click", () => {
      state.down = state.sort === c.of && !state.down;
      state.sort = c.of;
      choose();
    });
    th.append(button);
    head.append(th);
  }
  const present = new Set(rows.map((r) => r[OUTCOME]));
  for (const [i, name] of outcomes.entries()) {
    if (!present.has(i)) continue;
    const label = make("label");
    const box = make("input", undefined, { type: "checkbox", value: name });
    box.addEventListener("change", () => {
      if (box.checked) state.outcomes.add(i); else state.outcomes.delete(i);
      choose();
    });
    label.append(box, " ", make("span", undefined, { class: "dot " + name }), name);
    document.getElementById("outcomes").append(label);
  }
  const select = document.getElementById("job");
  jobs.forEach((name, i) => select.append(make("option", name, { value: i })));
  if (jobs.length < 2) document.getElementById("job-label").hidden = true;
  select.addEventListener("change", () => { state.job = select.value; choose(); });
  let timer;
  document.getElementById("search").addEventListener("input", (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => { state.text = event.target.value; choose(); }, 120);
  });
  document.getElementById("filter").addEventListener("submit", (event) => event.preventDefault());
  const turn = (by) => () => { state.page += by; draw(); document.querySelector("#devices .scroll").scrollIntoView({ block: "nearest" }); };
  document.getElementById("previous").addEventListener("click", turn(-1));
  document.getElementById("next").addEventListener("click", turn(1));
  draw();
})();
