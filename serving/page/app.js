// One page, no framework: the address after # is the state, and every text goes in as text, never as markup.
const SHOWN = 10, CHOICES_SHOWN = 40;
const HISTORY_SHOWN = matchMedia("(min-width: 62rem)").matches ? 15 : 5;
const $ = (id) => document.getElementById(id);
const state = { household: "", goal: "all", q: "", product: "", why: "" };
const page = { households: [], history: null, later: null, names: new Map(), recommended: null, degraded: new Map(), order: "times" };
const asked = {};

// ---------------------------------------------------------------- asking

class Refused extends Error {
  constructor(status, error) {
    super(error.message || `The server answered ${status}.`);
    this.status = status;
    this.hint = error.hint || "";
    this.requestId = error.request_id || "";
  }
}

async function call(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refused(0, { message: "The shop does not answer.", hint: "Check that the server runs, then try again." });
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, answer.error || {});
  if (Array.isArray(answer.degraded)) page.degraded.set(path.split("/").slice(0, path.startsWith("v1/") ? 2 : 3).join("/"), answer.degraded);
  return answer;
}

// Only the newest question of a kind may draw its answer.
async function ask(kind, question, draw, fail) {
  const mine = (asked[kind] = (asked[kind] || 0) + 1);
  try {
    const answer = await question();
    if (asked[kind] === mine) draw(answer);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (asked[kind] === mine) fail(error);
  }
  drawDegraded();
}

// ---------------------------------------------------------------- drawing

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") node.addEventListener("click", value);
    else if (name === "class") node.className = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const fill = (node, ...children) => node.replaceChildren(...children.filter(Boolean));
const show = (id, yes) => { $(id).hidden = !yes; };
const number = (value) => (typeof value !== "number" ? String(value)
  : Number.isInteger(value) ? String(value) : Math.abs(value) < 0.001 ? value.toExponential(2) : value.toFixed(4));
const moment = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 16)} UTC`;
const cut = (text, length) => (text.length > length ? text.slice(0, length) + "…" : text);
const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;
const web = (url) => (/^https?:\/\//.test(url || "") ? url.replace(/\/+$/, "") : "");

function money(price, currency) {
  if (typeof price !== "number") return "";
  try {
    return new Intl.NumberFormat("en", { style: "currency", currency: currency || "USD" }).format(price);
  } catch {
    return price.toFixed(2);
  }
}

function trouble(error) {
  const text = [error.message, error.hint, error.requestId && `(request ${error.requestId})`].filter(Boolean).join(" ");
  return el("p", { class: "trouble", role: "alert" }, text);
}

function drawDegraded() {
  const parts = new Set([...page.degraded.values()].flat());
  show("notice", parts.size > 0);
  $("notice").textContent = parts.size ? `Answering with less than usual: ${[...parts].join(", ").replaceAll("_", " ")}.` : "";
}

const link = (productId, name) =>
  el("button", { type: "button", class: "name", data: { product: productId }, on: () => go({ product: productId, why: "" }) }, name || productId);

function mark(productId) {
  if (!page.later || !page.later.has(productId)) return null;
  return el("span", { class: "mark", title: "bought in the four weeks after" }, "✓",
    el("span", { class: "hidden" }, " bought in the four weeks after"));
}

function hits(productIds) {
  if (!page.later) return "";
  return `${productIds.filter((id) => page.later.has(id)).length} of ${productIds.length} were bought in the four weeks after.`;
}

// A product, its mark, and below them in small print what is known about it here.
function rankedItem(each, ...about) {
  if (each.name) page.names.set(each.product_id, each.name);
  return el("li", page.later?.has(each.product_id) ? { class: "hit" } : {},
    el("div", { class: "line" }, link(each.product_id, each.name), mark(each.product_id)),
    el("div", { class: "about" }, ...[money(each.price), ...about].filter(Boolean).map((part) =>
      (part instanceof Node ? part : el("span", {}, part)))));
}

// ---------------------------------------------------------------- household

const known = (id) => page.households.find((each) => each.customer_id === id);
const labelled = (id) => known(id)?.label || `household ${id}`;

function choose(id) {
  closeChoices();
  if (id.trim() !== state.household) go({ household: id.trim(), product: "", why: "" });
  else { loadHousehold(); loadRecommended(); }
}

function closeChoices() {
  show("choices", false);
  $("household").setAttribute("aria-expanded", "false");
  $("household").removeAttribute("aria-activedescendant");
}

function openChoices() {
  const wanted = $("household").value.trim().toLowerCase();
  const found = page.households.filter((each) => `${each.customer_id} ${each.label}`.toLowerCase().includes(wanted));
  // An id that starts with what was typed comes before one that merely holds it.
  found.sort((a, b) => b.customer_id.startsWith(wanted) - a.customer_id.startsWith(wanted));
  fill($("choices"), ...found.slice(0, CHOICES_SHOWN).map((each, i) =>
    el("li", { role: "option", id: `choice-${i}`, "aria-selected": "false", data: { id: each.customer_id },
      on: () => choose(each.customer_id) }, each.label)));
  show("choices", found.length > 0);
  $("household").setAttribute("aria-expanded", String(found.length > 0));
  $("household").removeAttribute("aria-activedescendant");
}

function moveChoice(step) {
  if ($("choices").hidden) openChoices();
  const options = [...$("choices").children];
  if (!options.length) return;
  const now = options.findIndex((each) => each.getAttribute("aria-selected") === "true");
  const next = now < 0 ? (step > 0 ? 0 : options.length - 1) : (now + step + options.length) % options.length;
  options.forEach((each, i) => each.setAttribute("aria-selected", String(i === next)));
  options[next].scrollIntoView({ block: "nearest" });
  $("household").setAttribute("aria-activedescendant", options[next].id);
}

function drawHistory() {
  const bought = page.history ? [...page.history] : [];
  const key = page.order === "times" ? "times" : "last_bought";
  bought.sort((a, b) => (a[key] < b[key] ? 1 : a[key] > b[key] ? -1 : 0));
  const all = $("history-all").dataset.all === "yes";
  fill($("history-rows"), ...bought.slice(0, all ? bought.length : HISTORY_SHOWN).map((each) => el("tr", {},
    el("td", {}, link(each.product_id, each.name)),
    el("td", { class: "n" }, `${each.times}×`),
    el("td", { class: "n" }, each.last_bought),
    el("td", { class: "n" }, each.every_days ? `${Math.round(each.every_days)} d` : "–"))));
  show("history-all", bought.length > HISTORY_SHOWN && !all);
  $("history-all").textContent = `Show all ${bought.length}`;
  for (const each of $("history-order").children) each.setAttribute("aria-pressed", String(each.dataset.order === page.order));
}

function drawRival() {
  const most = (page.history || []).slice(0, SHOWN);
  show("rival-section", most.length > 0);
  $("rival-note").textContent = state.goal === "novel"
    ? "Its own purchase frequency, the line to beat, cannot suggest anything new. For comparison only."
    : `The ten most frequent, which is a strong guess. ${hits(most.map((each) => each.product_id))}`;
  fill($("rival"), ...most.map((each) => rankedItem(each, `bought ${plural(each.times, "time", "times")}`)));
}

function drawRecommended() {
  const answer = page.recommended;
  if (!answer) return;
  $("ours-note").textContent = !answer.results.length ? "Nothing to recommend here."
    : !state.household ? "What a customer without a history is shown."
    : `${state.goal === "novel" ? "Products it never bought before." : "In the order of the ranker."} `
      + hits(answer.results.map((each) => each.product_id));
  fill($("ours"), ...answer.results.map((each) => {
    const why = el("button", { type: "button", class: "why", "aria-label": `Why ${each.name || each.product_id}, and where from`,
      on: () => go({ why: each.product_id, product: "" }) }, "why / where from");
    return rankedItem(each, (each.reasons || []).join("; "), why);
  }));
}

function drawTruth() {
  $("truth").textContent = !state.household || !page.later ? ""
    : `✓ marks what this household did buy in the four weeks after (${plural(page.later.size, "product", "products")}); `
      + "no model saw these weeks, they were kept aside to check it.";
}

async function loadHousehold() {
  const id = state.household;
  page.later = null;
  page.history = null;
  $("history-all").dataset.all = "";
  $("who").textContent = id ? labelled(id) : "A customer nobody knows yet";
  show("nobody", Boolean(id));
  show("goal", Boolean(id));
  if (!id) { asked.history = (asked.history || 0) + 1; show("history", false); drawRival(); drawTruth(); return; }
  show("history", true);
  await ask("history", () => call(`page/api/households/${encodeURIComponent(id)}/history`), (answer) => {
    page.history = answer.products;
    page.later = answer.later ? new Set(answer.later) : null;
    for (const each of answer.products) page.names.set(each.product_id, each.name);
    $("history-note").textContent = answer.products.length ? `${plural(answer.products.length, "product", "different products")} so far.`
      : "Nothing yet: this customer is new to the shop.";
    drawHistory(); drawRival(); drawRecommended(); drawTruth();
  }, (error) => { $("history-note").replaceChildren(trouble(error)); drawHistory(); drawRival(); drawTruth(); });
}

async function loadRecommended() {
  page.recommended = null;
  fill($("ours"));
  $("ours-note").textContent = "…";
  const body = { n: SHOWN, goal: state.household ? state.goal : "all", explain: true };
  if (state.household) body.customer_id = state.household;
  await ask("recommended", () => call("v1/recommend", body), (answer) => {
    page.recommended = answer;
    drawRecommended(); loadRelease(answer.release_id);
    if (state.why) drawWhy();
  }, (error) => { fill($("ours-note"), trouble(error)); if (state.why) openPanel("Why", trouble(error)); });
}

// ---------------------------------------------------------------- search, product

async function search() {
  show("results", Boolean(state.q));
  if (!state.q) return;
  $("results-title").textContent = `“${cut(state.q, 60)}”`;
  const body = { query: state.q, n: 12 };
  if (state.household) body.customer_id = state.household;
  await ask("search", () => call("v1/search", body), (answer) => {
    $("results-title").textContent = answer.results.length
      ? `${plural(answer.total ?? answer.results.length, "product", "products")} for “${cut(state.q, 60)}”`
      : `Nothing found for “${cut(state.q, 60)}”`;
    drawFound($("results-list"), answer.results);
  }, (error) => fill($("results-list"), el("li", {}, trouble(error))));
}

const spoken = (category) => category && category[0] + category.slice(1).toLowerCase();

function drawFound(list, results) {
  const draw = (categories) => fill(list, ...results.map((each) => rankedItem(each, spoken(categories[each.product_id]))));
  draw({});
  const ids = results.map((each) => encodeURIComponent(each.product_id)).join(",");
  if (ids) ask(`categories of ${list.id}`, () => call(`page/api/categories?ids=${ids}`), draw, () => {});
}

function openPanel(title, ...body) {
  $("panel-title").textContent = title;
  fill($("panel-body"), ...body);
  if (!$("panel").open) { $("panel").showModal(); $("panel").scrollTop = 0; $("panel-title").focus(); }
}

const facts = (pairs) => pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined)
  .flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value instanceof Node ? value : String(value))]);

async function drawProduct() {
  const id = state.product, path = `v1/products/${encodeURIComponent(id)}`;
  const similar = el("ol", { class: "found", id: "similar" }), about = el("dl", { class: "facts" });
  openPanel(page.names.get(id) || `Product ${id}`, about, el("h3", {}, "Similar products"), similar);
  const bought = (page.history || []).find((each) => each.product_id === id);
  const mine = bought ? [["this household", `bought it ${plural(bought.times, "time", "times")}, last on ${bought.last_bought}`]] : [];
  await Promise.all([
    ask("product", () => call(path), (product) => {
      $("panel-title").textContent = product.name || `Product ${id}`;
      fill(about, ...facts([["price", money(product.price, product.currency)], ["category", spoken(product.category)],
        ["brand", product.brand], ["type", spoken(product.product_type)], ["size", product.package_size],
        ["department", spoken(product.department)], ["promotion", product.on_promotion ? "on promotion now" : ""],
        ["product id", id], ...mine]));
    }, (error) => fill(about, trouble(error))),
    ask("similar", () => call(`${path}/similar?n=8`), (answer) => {
      if (answer.results.length) drawFound(similar, answer.results);
      else fill(similar, el("li", { class: "note" }, "None known."));
    }, (error) => fill(similar, el("li", {}, trouble(error)))),
  ]);
}

// ---------------------------------------------------------------- release, provenance

const releases = new Map();
const release = (id) => {
  if (!releases.has(id)) {
    const coming = call(`page/api/release/${encodeURIComponent(id)}`);
    coming.catch(() => releases.delete(id));
    releases.set(id, coming);
  }
  return releases.get(id);
};

const outward = (text, url) => (url ? el("a", { href: url, target: "_blank", rel: "noopener" }, text) : text);

function table(caption, heads, rows) {
  return el("div", {}, el("h3", {}, caption), el("div", { class: "wide", tabindex: "0", role: "group", "aria-label": caption },
    el("table", { "aria-label": caption },
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell, i) =>
        (i ? el("td", {}, cell) : el("th", { scope: "row" }, cell)))))))));
}

const METHODS = { served: "this release", frequency: "its purchase frequency", decay_popularity: "decayed frequency + popularity" };
const span = ([low, high]) => `${low.toFixed(3)} to ${high.toFixed(3)}`;

function evaluation(found) {
  const retry = "Run `mercato evaluate recommend` to measure it against the baselines.";
  if (!found) return [el("p", { class: "note" }, `This release was not evaluated here yet. ${retry}`)];
  const tables = new Map();
  for (const row of found.rows) {
    const title = `${row.goal === "novel" ? "only new products" : "anything"}, ${row.slice}`;
    tables.set(title, [...(tables.get(title) || []), row]);
  }
  return [el("p", { class: "note" }, `Measured offline. Truth: ${found.truth}. Intervals are 95 %.`),
    ...[...tables].map(([title, rows]) => table(`${title} (${rows[0].households} households)`,
      ["method", "NDCG@10", "interval", "Recall@10", "Hit@10", "this release is better by"],
      rows.map((row) => [METHODS[row.method] || row.method.replaceAll("_", " "), row.ndcg_at_10.toFixed(3), span(row.interval),
        row.recall_at_10.toFixed(3), row.hit_at_10.toFixed(3),
        row.served_gain ? `${row.served_gain[0].toFixed(3)} (${span(row.served_gain.slice(1))})` : "–"])))];
}

async function loadRelease(id) {
  $("release-chip").textContent = `release ${id}`;
  await ask("release", () => release(id), (answer) => {
    const origin = answer.manifest.provenance;
    show("release", true);
    fill($("release-facts"), ...facts([["release", el("code", {}, id)], ["saw nothing after", moment(origin.fit_until)],
      ["code revision", el("code", {}, cut(origin.code_revision, 12))]]));
    fill($("release-metrics"), ...evaluation(answer.evaluation));
    fill($("links"), ...Object.entries(answer.links).map(([name, url]) => web(url) && outward(`${name.replaceAll("_", " ")} ↗`, web(url))));
  }, (error) => { show("release", true); fill($("release-facts"), trouble(error)); });
}

function runsTable(answer) {
  const { identity, provenance } = answer.manifest, airflow = web(answer.links.airflow), mlflow = web(answer.links.mlflow);
  return table("What it consists of, and the runs that made it", ["artefact", "MLflow run", "Airflow run", "sha256"],
    Object.entries(identity.artefacts).map(([name, artefact]) => {
      const run = provenance.runs[name] || "", made = provenance.dag_runs[name] || "";
      const [dag, ...rest] = made.split("/");
      return [name,
        run ? outward(cut(run, 8), mlflow && `${mlflow}/#/runs/${encodeURIComponent(run)}`) : "–",
        made ? outward(made, airflow && `${airflow}/dags/${encodeURIComponent(dag)}/runs/${encodeURIComponent(rest.join("/"))}`) : "–",
        el("code", {}, artefact.sha256.slice(0, 8))];
    }));
}

async function drawWhy() {
  const answer = page.recommended, at = answer ? answer.results.findIndex((each) => each.product_id === state.why) : -1;
  if (at < 0) {
    openPanel("Why", el("p", { class: "note" }, answer ? "This product is not among the ten recommended here." : "…"));
    return;
  }
  const each = answer.results[at], scores = Object.entries(each.scores || {}).map(([stage, score]) => [stage, number(score)]), from = el("div", {}, el("p", { class: "note" }, "…"));
  openPanel(each.name || each.product_id,
    el("p", { class: "note" }, `Number ${at + 1} for ${state.household ? labelled(state.household) : "a customer nobody knows"}.`),
    el("ul", { class: "reasons" }, ...(each.reasons || []).map((reason) => el("li", {}, reason))),
    scores.length ? table("Score at each stage", ["stage", "score"], scores) : el("p", { class: "note" }, "No stage scores came with this answer."),
    el("h3", {}, "Where it came from"), from,
    el("p", {}, el("button", { type: "button", on: () => go({ product: each.product_id, why: "" }) }, "See the product")));
  await ask("why", () => release(answer.release_id), (made) => {
    const origin = made.manifest.provenance;
    fill(from, el("dl", { class: "facts" }, ...facts([["release", el("code", {}, answer.release_id)],
      ["request", el("code", {}, answer.request_id)], ["saw nothing after", moment(origin.fit_until)], ["code revision", el("code", {}, origin.code_revision)]])),
    runsTable(made),
    table("Data that were read", ["table or view", "digest"],
      Object.entries(origin.snapshots).map(([name, digest]) => [name, el("code", {}, cut(digest, 16))])));
  }, (error) => fill(from, trouble(error)));
}

// ---------------------------------------------------------------- the address

function go(change, replace = false) {
  const next = { ...state, ...change }, parts = new URLSearchParams();
  for (const [name, value] of Object.entries(next)) if (value && !(name === "goal" && value === "all")) parts.set(name, value);
  history[replace ? "replaceState" : "pushState"](null, "", `#${parts}`);
  route();
}

function route(first = false) {
  const parts = new URLSearchParams(location.hash.slice(1)), before = { ...state };
  for (const name of Object.keys(state)) state[name] = (parts.get(name) || "").slice(0, 200);
  if (state.goal !== "novel") state.goal = "all";
  const moved = (...names) => first || names.some((name) => before[name] !== state[name]);
  if (moved("household")) { $("household").value = state.household; loadHousehold(); }
  if (moved("goal")) drawRival();
  for (const each of $("goal").children) each.setAttribute("aria-pressed", String(each.dataset.goal === state.goal));
  if (moved("household", "goal")) loadRecommended();
  if (moved("q")) { if ($("query").value.trim() !== state.q) $("query").value = state.q; search(); }
  if (!state.product && !state.why && $("panel").open) $("panel").close();
  if (state.product && moved("product")) drawProduct();
  else if (state.why && !state.product && moved("why", "product")) drawWhy();
}

function listen() {
  let waiting;
  $("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => go({ q: $("query").value.trim() }, true), 250);
  });
  $("search").addEventListener("submit", (event) => { event.preventDefault(); clearTimeout(waiting); go({ q: $("query").value.trim() }); });
  $("pick").addEventListener("submit", (event) => {
    event.preventDefault();
    choose($("choices").querySelector("[aria-selected=true]")?.dataset.id ?? $("household").value);
  });
  $("household").addEventListener("input", openChoices);
  $("household").addEventListener("focus", () => { $("household").select(); });
  $("household").addEventListener("click", openChoices);
  $("household").addEventListener("blur", closeChoices);
  $("choices").addEventListener("mousedown", (event) => event.preventDefault()); // or the blur would close it before the click
  $("household").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { event.preventDefault(); moveChoice(event.key === "ArrowDown" ? 1 : -1); }
    if (event.key === "Escape") closeChoices();
  });
  $("another").addEventListener("click", () => choose(page.households[Math.floor(Math.random() * page.households.length)].customer_id));
  $("nobody").addEventListener("click", () => choose(""));
  $("goal").addEventListener("click", (event) => event.target.dataset.goal && go({ goal: event.target.dataset.goal }));
  $("history-order").addEventListener("click", (event) => { page.order = event.target.dataset.order || page.order; drawHistory(); });
  $("history-all").addEventListener("click", () => { $("history-all").dataset.all = "yes"; drawHistory(); });
  $("panel-close").addEventListener("click", () => $("panel").close());
  $("panel").addEventListener("click", (event) => event.target === $("panel") && $("panel").close());
  $("panel").addEventListener("close", () => (state.product || state.why) && go({ product: "", why: "" }));
  window.addEventListener("popstate", () => route());
}

listen();
route(true);
ask("households", () => call("page/api/households"), (answer) => {
  page.households = answer.households;
  $("household-label").textContent = "Household";
  $("household").setAttribute("placeholder", `one of ${answer.households.length}`);
  show("another", answer.households.length > 1);
  if (state.household) $("who").textContent = labelled(state.household);
}, () => { $("household").setAttribute("placeholder", "the shop's own id"); });
