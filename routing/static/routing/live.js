/* Shows what the gateway does now beside endpoints and groups, and asks again every two seconds; and the buttons that
   do something without leaving the page. Everything is set as text: nothing that came from elsewhere becomes markup. */
"use strict";

(() => {
  const EVERY_MS = 2000;
  const AVAILABLE = ["healthy", "probing"];
  const WORDS = {
    healthy: "healthy", cooling_down: "cooling", probing: "probing",
    disabled: "disabled", draining: "draining", misconfigured: "misconfigured",
  };
  let live = {};
  let readAt = performance.now();

  const milliseconds = (value) =>
    value === null ? "-" : value >= 10000 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`;
  const percent = (value) => (value === null ? "-" : `${value} %`);
  const number = (value) => value.toLocaleString("en");
  const latency = (one) => (one.p50_ms === null ? "-" : `${milliseconds(one.p50_ms)} / ${milliseconds(one.p95_ms)}`);

  function element(name, className, text) {
    const made = document.createElement(name);
    made.className = className;
    made.textContent = text;
    return made;
  }

  function cooldownLeft(one) {
    return Math.max(0, one.cooldown_s - (performance.now() - readAt) / 1000);
  }

  function badge(one) {
    const label = element("span", `lp-badge lp-${one.status}`, WORDS[one.status] || one.status);
    if (one.status === "cooling_down") {
      label.append(" ", element("span", "lp-countdown", `${Math.ceil(cooldownLeft(one))} s`));
      label.title = one.reason === "rate_limit" ? "cools: rate limit" : "cools: failures";
    }
    if (one.status === "draining") {
      label.append(" ", element("span", "lp-countdown", `${number(one.in_flight)} running`));
      label.title = "no new requests; disabled when the last one has ended";
    }
    if (one.trouble) label.title = one.trouble;
    return label;
  }

  const PARTS = {
    state: (one) => [badge(one)],
    in_flight: (one) => [number(one.in_flight)],
    success: (one) => [percent(one.success_rate)],
    latency: (one) => [latency(one)],
    total: (one) => [number(one.total)],
    last_error: (one) => [one.last_error || "-"],
    summary: (one) => {
      const facts = one.status === "draining" ? [] : [`${number(one.in_flight)} in flight`];
      if (one.total) facts.push(percent(one.success_rate));
      if (one.total && one.p50_ms !== null) facts.push(milliseconds(one.p50_ms));
      return [badge(one), element("span", "lp-quiet", facts.join(" · "))];
    },
  };
  const GROUP_PARTS = {
    available: (one) => {
      const state = one.available === one.endpoints ? "healthy" : one.available ? "draining" : "cooling_down";
      return [element("span", `lp-badge lp-${state}`, `${one.available} of ${one.endpoints} available`)];
    },
    in_flight: (one) => [number(one.in_flight)],
  };

  function fill(place, one, parts) {
    if (one) place.replaceChildren(...parts[place.dataset.part](one));
    else if (live.endpoints) place.replaceChildren(element("span", "lp-quiet", "not served yet"));
  }

  function set(selector, text) {
    document.querySelectorAll(selector).forEach((place) => { place.textContent = text; });
  }

  function showTotals() {
    if (!live.endpoints) return;
    const endpoints = Object.values(live.endpoints);
    set("[data-total=available]", endpoints.filter((one) => AVAILABLE.includes(one.status)).length);
    set("[data-total=endpoints]", endpoints.length);
    set("[data-total=store]", live.store ? "connected" : "away");
    set("[data-total=revision]", live.revision);
  }

  function showRefused() {
    const banner = document.getElementById("lp-refused");
    if (!banner || live.refused === undefined) return;
    banner.hidden = !live.refused;
    if (!live.refused) return;
    set("[data-refused=revision]", live.refused.revision);
    set("[data-refused=serving]", live.revision);
    set("[data-refused=reason]", live.refused.reason);
  }

  function show() {
    document.querySelectorAll("[data-live]").forEach(
      (place) => fill(place, (live.endpoints || {})[place.dataset.live], PARTS));
    document.querySelectorAll("[data-live-group]").forEach(
      (place) => fill(place, (live.groups || {})[place.dataset.liveGroup], GROUP_PARTS));
    showTotals();
    showRefused();
  }

  function countDown() {
    document.querySelectorAll("[data-live] .lp-countdown").forEach((place) => {
      const one = live.endpoints[place.closest("[data-live]").dataset.live];
      if (one && one.cooldown_s !== null) place.textContent = `${Math.ceil(cooldownLeft(one))} s`;
    });
  }

  function take(state) {
    live = state;
    readAt = performance.now();
    document.body.classList.remove("lp-stale");
    show();
  }

  async function ask(url) {
    if (document.hidden) return;
    try {
      const answer = await fetch(url, { headers: { accept: "application/json" } });
      if (!answer.ok || answer.redirected) throw new Error("no state");
      take(await answer.json());
    } catch {
      document.body.classList.add("lp-stale"); // what is shown is old
    }
  }

  async function tryOut(event) {
    event.preventDefault();
    const form = event.target;
    const place = document.getElementById(form.dataset.test);
    const button = form.querySelector("button");
    button.disabled = true;
    place.hidden = false;
    place.className = "lp-trial";
    place.textContent = "Asking the endpoint ...";
    try {
      const answer = await fetch(form.action, {
        method: "POST", body: new FormData(form), headers: { accept: "application/json" },
      });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      showTrial(place, await answer.json());
    } catch (error) {
      place.className = "lp-trial lp-bad";
      place.textContent = `Not tested: ${error.message}`;
    }
    button.disabled = false;
  }

  function showTrial(place, trial) {
    place.className = `lp-trial ${trial.ok ? "lp-good" : "lp-bad"}`;
    const facts = [["Result", trial.ok ? "answered" : "failed"]];
    if (trial.status !== null) facts.push(["Status", trial.status]);
    if (trial.status !== null) facts.push(["Latency", milliseconds(trial.latency_ms)]);
    if (trial.model) facts.push(["Model", trial.model]);
    if (trial.error) facts.push(["Error", trial.error]);
    place.replaceChildren(...facts.map(([name, value]) => {
      const fact = element("span", "lp-fact", "");
      fact.append(element("span", "lp-quiet", name), element("b", "", value));
      return fact;
    }));
  }

  function chooseForAll(event) {
    const winner = event.currentTarget.dataset.choose;
    document.querySelectorAll(`.lp-conflict input[value=${winner}]`).forEach((choice) => { choice.checked = true; });
  }

  window.llmproxy = { element, number, set, take }; // for dashboard.js

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("[data-choose]").forEach((button) => button.addEventListener("click", chooseForAll));
    document.querySelectorAll("form[data-test]").forEach((form) => form.addEventListener("submit", tryOut));
    const data = document.getElementById("lp-live-data");
    const root = document.getElementById("lp-live");
    if (!data || !root) return;
    live = JSON.parse(data.textContent);
    if (live.endpoints) show();
    setInterval(countDown, 250);
    if (!root.dataset.url) return; // the page is told
    if (!live.endpoints) ask(root.dataset.url); // a page that was sent back with errors comes without
    setInterval(() => ask(root.dataset.url), EVERY_MS);
    document.addEventListener("visibilitychange", () => ask(root.dataset.url));
  });
})();
