// The demo's dashboard: asks one question and shows its rows. It knows one URL only, its own.
"use strict";

const API = "/api/dashboard/analytics";
const form = document.getElementById("question");
const state = document.getElementById("state");
const body = document.getElementById("rows");
const usd = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });
const percent = new Intl.NumberFormat("en-US", { style: "percent", maximumFractionDigits: 1 });
let asked = 0;

function cells(row) {
  return [
    row.mixpanel_trials_started,
    percent.format(row.trial_conversion_rate ?? 0),
    row.mixpanel_purchases,
    usd.format(row.spend ?? 0),
    usd.format(row.estimated_revenue_adjusted ?? 0),
    usd.format(row.profit ?? 0),
    (row.estimated_roas ?? 0).toFixed(2),
  ];
}

function below(row) {
  const parts = (row.breakdowns ?? []).flatMap((breakdown) => breakdown.values);
  return [...parts.map((part) => [part, "part"]), ...(row.children ?? []).map((row) => [row, ""])];
}

function line(row, depth, kind) {
  const tr = document.createElement("tr");
  tr.className = kind;
  tr.dataset.depth = depth;
  const name = tr.insertCell();
  name.style.paddingLeft = `${0.6 + depth * 1.4}rem`;
  const inner = below(row);
  const toggle = document.createElement(inner.length ? "button" : "span");
  toggle.textContent = inner.length ? "▸ " : "";
  name.append(toggle, row.name);
  for (const text of cells(row)) tr.insertCell().textContent = text ?? "";
  toggle.addEventListener("click", () => {
    const isOpen = toggle.textContent === "▾ ";
    toggle.textContent = isOpen ? "▸ " : "▾ ";
    if (!isOpen) {
      tr.after(...inner.map(([child, childKind]) => line(child, depth + 1, childKind)));
      return;
    }
    while (tr.nextElementSibling && Number(tr.nextElementSibling.dataset.depth) > depth) {
      tr.nextElementSibling.remove();
    }
  });
  return tr;
}

async function show() {
  const number = ++asked;
  const started = performance.now();
  state.textContent = "Loading…";
  try {
    const response = await fetch(`${API}/data`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(Object.fromEntries(new FormData(form))),
    });
    const answer = await response.json();
    if (number !== asked) return;
    if (!answer.success) throw new Error(answer.error);
    body.replaceChildren(...answer.data.map((row) => line(row, 0, "")));
    const took = Math.round(performance.now() - started);
    const source = response.headers.get("X-Dashboard-Source");
    const cache = response.headers.get("Cache-Status");
    const notes = [`${answer.data.length} rows in ${took} ms`, source, cache];
    state.textContent = notes.filter(Boolean).join(" · ");
  } catch (error) {
    if (number === asked) state.textContent = `That did not work: ${error.message}`;
  }
}

async function start() {
  const answer = await (await fetch(`${API}/date-range`)).json();
  const latest = new Date(answer.data.latest_date ?? Date.now());
  const earlier = new Date(latest);
  earlier.setUTCDate(latest.getUTCDate() - 30);
  form.elements.end_date.value = latest.toISOString().slice(0, 10);
  form.elements.start_date.value = earlier.toISOString().slice(0, 10);
  await show();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
setInterval(() => ["/api/running", "/api/pipelines"].forEach((path) => fetch(path)), 10000);
start().catch((error) => { state.textContent = `That did not work: ${error.message}`; });
