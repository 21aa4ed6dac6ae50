/* The first page: numbers of the gateway as they come over a websocket, and charts of them. It connects again by itself.
   Everything is set as text: nothing that came from elsewhere becomes markup. */
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const page = document.getElementById("lp-dashboard");
  if (!page) return;
  const { element, number, set, take } = window.llmproxy;
  const SPAN_NAMES = { "15m": "15 min", "24h": "24 h", "30d": "30 days" };
  const SILENT_MS = 8000; // there is something to say every second
  const LOST_RIGHTS = 4403;
  let span = "15m";
  let past = null;
  let pastAt = 0;

  // -- words

  const milliseconds = (value) =>
    value === null ? "-" : value >= 1000 ? `${(value / 1000).toFixed(value >= 10000 ? 0 : 1)} s` : `${Math.round(value)} ms`;
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const short = (value) => (value < 100000 ? number(value) : compact.format(value));
  const percent = (value) => (value === null ? "-" : `${value === 100 ? 100 : Math.min(value, 99.99).toFixed(value < 99.9 ? 1 : 2)} %`);
  const both = (one) => (one.p50 === null ? "-" : `${milliseconds(one.p50)} / ${milliseconds(one.p95)}`);
  const dollars = (value) =>
    value === 0 ? "$0" : value >= 1000 ? `$${short(Math.round(value))}` : value >= 1 ? `$${value.toFixed(2)}` : `$${Number(value.toPrecision(2))}`;

  const within = (one, none) => (one.p95 === null ? none : `95 % within ${milliseconds(one.p95)}`);

  function cost(one) {
    if (!one.requests) return "-";
    if (!one.unpriced) return dollars(one.cost_usd);
    return one.cost_usd ? `> ${dollars(one.cost_usd)}` : "unknown";
  }

  function saved(one) {
    if (one.cache.hit_rate === null) return (one.requests ? "nothing could be cached" : "no requests");
    const usd = one.cache.saved_usd ? `, ${dollars(one.cache.saved_usd)}` : "";
    return `saved ${short(one.cache.saved_tokens)} tokens${usd}`;
  }

  function outcomes({ outcomes: of, requests }) {
    if (!requests) return "no requests";
    const bad = ["failure", "rejected", "cancelled"].filter((name) => of[name]);
    const words = { failure: "failed", rejected: "rejected", cancelled: "cancelled" };
    return bad.map((name) => `${number(of[name])} ${words[name]}`).join(", ") || "none failed";
  }

  function ago(seconds) {
    if (seconds < 60) return `${Math.max(0, Math.floor(seconds))} s ago`;
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
    return seconds < 172800 ? `${Math.floor(seconds / 3600)} h ago` : `${Math.floor(seconds / 86400)} days ago`;
  }

  const FIGURES = {
    requests: (one) => number(one.requests),
    success: (one) => percent(one.success_rate),
    outcomes,
    p50: (one) => milliseconds(one.latency_ms.p50),
    p95: (one) => within(one.latency_ms, "no answers"),
    ttft_p50: (one) => milliseconds(one.ttft_ms.p50),
    ttft_p95: (one) => within(one.ttft_ms, "no streams"),
    latency: (one) => both(one.latency_ms),
    first_token: (one) => both(one.ttft_ms),
    tokens: (one) => short(one.tokens.input + one.tokens.output),
    token_parts: (one) => `${short(one.tokens.input)} in, ${short(one.tokens.output)} out`,
    cost,
    unpriced: (one) => (one.unpriced ? `${number(one.unpriced)} requests of unknown price` : one.requests ? "all prices known" : "no requests"),
    hit_rate: (one) => percent(one.cache.hit_rate),
    saved,
    hits_saved: (one) => percent(one.cache.hit_rate),
  };
  const NOTHING = {
    requests: 0, success_rate: null, outcomes: {}, latency_ms: { p50: null, p95: null }, ttft_ms: { p50: null, p95: null },
    tokens: { input: 0, output: 0 }, cost_usd: 0, unpriced: 0, cache: { hit_rate: null, saved_tokens: 0, saved_usd: 0 },
  };

  // -- figures

  function showPast() {
    if (!past) return;
    page.querySelectorAll("[data-figures]").forEach((row) => {
      const { figures, name } = row.dataset;
      const one = figures === "totals" ? past.totals : Object.hasOwn(past[figures], name) ? past[figures][name] : NOTHING;
      row.querySelectorAll("[data-figure]").forEach((place) => {
        const text = FIGURES[place.dataset.figure](one);
        if (place.textContent !== text) place.textContent = text;
        if (place.dataset.figure === "hits_saved") place.title = saved(one);
        if (place.dataset.figure === "cost") place.classList.toggle("lp-unknown", text === "unknown");
      });
      row.classList.toggle("lp-idle", figures !== "totals" && !one.requests);
    });
    set("[data-span-name]", SPAN_NAMES[past.span]);
    showFailures();
    drawCharts();
  }

  function showNow(live) {
    if (revision !== null && live.revision !== revision) configurationChanged();
    revision = live.revision;
    take(live);
    const running = Object.values(live.endpoints).reduce((sum, one) => sum + one.in_flight, 0);
    const pace = live.pace;
    set("[data-now=in_flight]", number(running));
    set("[data-now=pace]", pace === null ? "-" : pace >= 100 ? number(Math.round(pace)) : pace.toFixed(1));
    for (const [name, value] of Object.entries(live.requests)) {
      set(`[data-so-far=${name}]`, typeof value === "number" ? number(value) : "-");
    }
    const first = document.getElementById("lp-first");
    if (first) first.hidden = live.requests.total > 0;
  }

  let revision = null;

  async function configurationChanged() {
    const answer = await fetch(location.href);
    if (!answer.ok || answer.redirected) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("lp-fleet");
    if (fresh) document.getElementById("lp-fleet").replaceWith(document.adoptNode(fresh));
    showPast();
  }

  // -- failures

  const ERRORS = {
    no_endpoint_available: "no endpoint was asked: all were cooling or out of service",
    overloaded: "no endpoint was asked: too many requests at a time",
    upstream_stream_interrupted: "the stream broke after its first event",
  };

  function attemptStep(attempt, index) {
    const step = element("li", `lp-attempt lp-ended-${attempt.outcome}`, "");
    const result = attempt.outcome === "success" ? "answered" : attempt.cause || attempt.outcome;
    step.append(
      element("b", "", attempt.endpoint), element("span", "", result),
      element("span", "lp-quiet", milliseconds(attempt.duration_ms)),
    );
    step.title = `attempt ${index + 1}, begun ${milliseconds(attempt.began_ms)} after the request came`;
    return step;
  }

  function failureItem(failure) {
    const rescued = failure.outcome !== "failure";
    const item = element("article", "lp-failure", "");
    const head = element("div", "lp-failure-head", "");
    const label = failure.outcome === "success" ? "rescued" : rescued ? failure.outcome : "failed";
    head.append(element("span", `lp-badge ${failure.outcome === "success" ? "lp-healthy" : rescued ? "" : "lp-cooling_down"}`, label));
    head.append(element("b", "lp-what", failure.group || "no group"));
    head.append(element("span", "lp-quiet", [failure.operation, failure.status || "", failure.error].filter(Boolean).join(" · ")));
    const when = element(page.dataset.records ? "a" : "span", "lp-quiet lp-ago", "");
    when.dataset.ago = failure.ago_s;
    if (page.dataset.records) when.href = `${page.dataset.records}?id=${encodeURIComponent(failure.request_id)}`;
    when.title = `request ${failure.request_id}`;
    head.append(when);
    const trail = element("ol", "lp-trail", "");
    trail.append(...failure.attempts.map(attemptStep));
    if (!failure.attempts.length) trail.append(element("li", "lp-quiet", ERRORS[failure.error] || "no endpoint was asked"));
    item.append(head, trail);
    return item;
  }

  let failuresShown = "";

  function showFailures() {
    const told = JSON.stringify(past.failures.map(({ ago_s, ...rest }) => rest)); // a client may give all its requests one id
    const place = document.getElementById("lp-failures");
    if (past.failures.length && told !== failuresShown) place.replaceChildren(...past.failures.map(failureItem));
    else past.failures.forEach((failure, index) => { place.querySelectorAll("[data-ago]")[index].dataset.ago = failure.ago_s; });
    failuresShown = told;
    countAges();
  }

  function countAges() {
    const since = (performance.now() - pastAt) / 1000;
    page.querySelectorAll("[data-ago]").forEach((place) => { place.textContent = ago(Number(place.dataset.ago) + since); });
  }

  // -- charts

  const charts = {};
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  const SERIES = {
    requests: [["success", "succeeded", "green"], ["failure", "failed", "red"], ["rejected", "rejected", "orange"], ["cancelled", "cancelled", "quiet"]],
    latency: [["latency_p50", "median", "blue"], ["latency_p95", "95 %", "blue", true], ["ttft_p50", "first token, median", "orange"], ["ttft_p95", "first token, 95 %", "orange", true]],
    tokens: [["input", "in", "blue"], ["output", "out", "green"]],
    cache: [["hits", "hits", "green"], ["misses", "misses", "quiet"]],
  };
  const UNITS = { latency: milliseconds };

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--lp-chart-${name}`).trim();

  function stepName(at) {
    const time = new Date(at * 1000);
    return past.span === "30d"
      ? time.toLocaleDateString("en", { month: "short", day: "numeric", timeZone: "UTC" })
      : time.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  }

  function dataset(chart, [column, label, name, dashed]) {
    const shade = colour(name);
    return chart === "latency"
      ? { label, data: past.series[column], borderColor: shade, backgroundColor: shade, borderWidth: dashed ? 1.5 : 2,
          borderDash: dashed ? [4, 3] : [], pointRadius: 0, pointHitRadius: 12, tension: 0.3, spanGaps: true }
      : { label, data: past.series[column], backgroundColor: shade, borderRadius: 2, maxBarThickness: 28, categoryPercentage: 0.86, barPercentage: 0.9 };
  }

  function options(chart) {
    const unit = UNITS[chart] || short;
    const stacked = chart !== "latency";
    const ticks = { color: colour("text"), font: { size: 11 }, maxRotation: 0, autoSkipPadding: 16 };
    return {
      animation: false, responsive: true, maintainAspectRatio: false, interaction: { mode: "index", intersect: false },
      scales: {
        x: { stacked, grid: { display: false }, border: { color: colour("grid") }, ticks },
        y: { stacked, beginAtZero: true, grid: { color: colour("grid") }, border: { display: false },
             ticks: { ...ticks, maxTicksLimit: 5, precision: 0, callback: (value) => unit(value) } },
      },
      plugins: {
        legend: { position: "bottom", align: "start", labels: { color: colour("text"), boxHeight: 7, usePointStyle: true, padding: 12, font: { size: 11 },
          ...(stacked ? { pointStyle: "circle" } : { pointStyle: "line", pointStyleWidth: 20 }) } },
        tooltip: { callbacks: { label: (item) => ` ${item.dataset.label}: ${item.raw === null ? "-" : unit(item.raw)}` } },
      },
    };
  }

  function drawCharts(anew = false) {
    page.querySelectorAll("[data-chart]").forEach((canvas) => {
      const name = canvas.dataset.chart;
      const labels = past.series.at.map(stepName);
      const empty = SERIES[name].every(([column]) => past.series[column].every((value) => !value));
      canvas.parentElement.dataset.empty = empty ? `nothing in the last ${SPAN_NAMES[past.span]}` : "";
      if (charts[name] && anew) { charts[name].destroy(); delete charts[name]; }
      if (!charts[name]) {
        const type = name === "latency" ? "line" : "bar";
        charts[name] = new Chart(canvas, { type, data: { labels, datasets: SERIES[name].map((one) => dataset(name, one)) }, options: options(name) });
        return;
      }
      charts[name].data.labels = labels;
      charts[name].data.datasets.forEach((one, index) => { one.data = past.series[SERIES[name][index][0]]; });
      charts[name].update("none");
    });
  }

  new MutationObserver(() => { if (past) drawCharts(true); })
    .observe(document.documentElement, { attributes: true, attributeFilter: ["class"] });

  // -- the socket

  let socket = null;
  let pause = 500;
  let heardAt = 0;
  let again = null;

  function tellLink(state) {
    const link = document.getElementById("lp-link");
    link.textContent = state;
    link.dataset.state = state;
    document.body.classList.toggle("lp-stale", state === "reconnecting");
  }

  function heard(event) {
    heardAt = performance.now();
    pause = 500;
    tellLink("live");
    const told = JSON.parse(event.data);
    if (told.live) showNow(told.live);
    if (told.past && told.past.span === span) {
      past = told.past;
      pastAt = heardAt;
      showPast();
    }
    if (told.past || told.away) document.getElementById("lp-away").hidden = !told.away;
  }

  function connect() {
    clearTimeout(again);
    const url = new URL(page.dataset.socket, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    heardAt = performance.now();
    socket = new WebSocket(url);
    socket.onopen = () => socket.send(span);
    socket.onmessage = heard;
    socket.onclose = ({ code }) => (code === LOST_RIGHTS ? location.reload() : connectLater());
  }

  function connectLater() {
    socket = null;
    if (document.hidden) return; // when it is looked at again
    tellLink("reconnecting");
    again = setTimeout(signedIn, pause * (0.75 + Math.random() / 2));
    pause = Math.min(pause * 2, 5000);
  }

  /* A socket is refused without a reason; who has been logged out comes to the login. */
  async function signedIn() {
    try {
      const answer = await fetch(location.href, { method: "HEAD", redirect: "manual", cache: "no-store" });
      if (answer.type === "opaqueredirect") location.reload();
      else connect();
    } catch {
      connectLater();
    }
  }

  function disconnect() {
    if (!socket) return;
    socket.onclose = null;
    socket.close();
    connectLater();
  }

  page.querySelectorAll("[data-span]").forEach((button) => button.addEventListener("click", () => {
    span = button.dataset.span;
    page.querySelectorAll("[data-span]").forEach((one) => one.setAttribute("aria-pressed", one === button));
    if (socket && socket.readyState === WebSocket.OPEN) socket.send(span);
  }));
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else if (!socket) connect();
  });
  setInterval(countAges, 1000);
  setInterval(() => { if (socket && performance.now() - heardAt > SILENT_MS) disconnect(); }, 1000);
  connect();
});
