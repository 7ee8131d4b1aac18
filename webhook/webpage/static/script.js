// Keeps a page live and gives orders. The page is complete without it: what the
// server sends are pieces of the same HTML, which take the place of the old ones.
"use strict";

(() => {
  const $ = (id) => document.getElementById(id);
  const body = document.body;
  document.documentElement.classList.add("js");

  // --- Times --------------------------------------------------------------

  let skew = Number(body.dataset.now) - Date.now(); // what the server's clock is ahead, in ms

  function span(ms) {
    const s = Math.max(0, Math.floor(ms / 1000));
    const two = (n) => String(n).padStart(2, "0");
    if (s < 60) return s + "s";
    if (s < 3600) return Math.floor(s / 60) + "m" + two(s % 60) + "s";
    if (s < 86400) return Math.floor(s / 3600) + "h" + two(Math.floor((s % 3600) / 60)) + "m";
    return Math.floor(s / 86400) + "d" + two(Math.floor((s % 86400) / 3600)) + "h";
  }

  function tick() {
    const now = Date.now() + skew;
    for (const t of document.querySelectorAll("time[data-form]")) {
      const at = Date.parse(t.dateTime);
      let text = span(t.dataset.form === "left" ? at - now + 999 : now - at);
      if (t.dataset.form === "ago") text += " ago";
      if (t.textContent !== text) t.textContent = text;
      if (!t.title) t.title = new Date(at).toString();
    }
  }

  const clock = (ms) => new Date(ms).toLocaleTimeString();

  // --- New pieces in the place of old ones ----------------------------------

  // morph makes a node what another one is. What is the same stays the same node, so
  // that focus, selection, scrolling and what was opened are kept.
  function morph(old, fresh) {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    const mine = (name) => name === "title" || (name === "open" && old.nodeName === "DETAILS");
    const sameTime = old.nodeName === "TIME" && old.dateTime === fresh.dateTime && old.dataset.form === fresh.dataset.form;
    for (const a of [...old.attributes]) {
      if (!fresh.hasAttribute(a.name) && !(mine(a.name) && (sameTime || a.name === "open"))) old.removeAttribute(a.name);
    }
    for (const a of [...fresh.attributes]) {
      if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
    }
    if (!sameTime) morphChildren(old, fresh);
  }

  function morphChildren(old, fresh) {
    const named = new Map();
    for (const child of old.children) if (child.id) named.set(child.id, child);
    let at = old.firstChild;
    for (const want of [...fresh.childNodes]) {
      const found = want.id ? named.get(want.id) : at && !at.id ? at : null;
      if (!found || found.nodeType !== want.nodeType || found.nodeName !== want.nodeName) {
        old.insertBefore(want, at);
        continue;
      }
      if (found === at) at = at.nextSibling;
      else old.insertBefore(found, at);
      morph(found, want);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function replace(id, html) {
    const old = $(id);
    if (!old) return;
    const holder = document.createElement("template");
    holder.innerHTML = html;
    const focused = document.activeElement;
    morph(old, holder.content.firstElementChild);
    if (focused && focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
    const now = $(id);
    if (now.nodeName === "TR") {
      now.classList.remove("fresh");
      void now.offsetWidth; // so that the animation begins anew
      now.classList.add("fresh");
    }
  }

  // What changed is read out in one sentence, and only if that changed.
  let said = "";

  function say() {
    const now = document.querySelector("[data-say]")?.dataset.say ?? "";
    if (said && now !== said) $("said").textContent = now;
    said = now;
  }

  // --- Live -----------------------------------------------------------------

  let source = null;
  let failures = 0;
  let lostAt = 0;
  let trouble = "";
  let retry, deaf, away;

  function show() {
    const state = lostAt ? "lost" : source && failures === 0 && heard ? "on" : "off";
    $("live").dataset.state = state;
    $("live-text").textContent = { lost: "not live", on: "live", off: "connecting" }[state];
    let text = "";
    if (lostAt) text = `Connection lost since ${clock(lostAt)}. What is shown is from then; trying again.`;
    else if (trouble) text = `Nothing new since ${clock(troubleAt)}: ${trouble}`;
    if ($("lost").textContent !== text) $("lost").textContent = text;
    $("lost").hidden = !text;
  }

  let heard = false;
  let troubleAt = 0;

  function alive(event) {
    heard = true;
    failures = 0;
    lostAt = 0;
    clearTimeout(deaf);
    deaf = setTimeout(lose, 15000); // three beats
    const data = JSON.parse(event.data);
    if (data.now) skew = data.now - Date.now();
    return data;
  }

  function connect() {
    clearTimeout(retry);
    clearTimeout(deaf);
    source?.close();
    heard = false;
    if (!body.dataset.events) return;
    source = new EventSource(body.dataset.events);
    source.onerror = lose;
    deaf = setTimeout(lose, 15000);
    const on = (kind, f) => source.addEventListener(kind, (event) => { f(alive(event)); show(); });
    on("hello", (data) => {
      // Another version of the server has other pages.
      if (data.version !== body.dataset.version && !document.querySelector("dialog[open]")) location.reload();
    });
    on("beat", () => {});
    on("trouble", (data) => { trouble = data.reason; troubleAt = Date.now(); });
    on("fine", () => { trouble = ""; });
    on("parts", (parts) => {
      for (const p of parts) replace(p.id, p.html);
      tick();
      say();
    });
    show();
  }

  // lose tries again after 1, 2, 4, … 30 seconds; a little chance keeps many pages
  // from coming back at once.
  function lose() {
    source?.close();
    clearTimeout(deaf);
    clearTimeout(retry);
    if (!lostAt) lostAt = Date.now();
    heard = false;
    const wait = Math.min(30, 2 ** failures) * (0.75 + Math.random() / 2);
    failures++;
    retry = setTimeout(connect, wait * 1000);
    show();
  }

  // A page that nobody sees needs no news.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(away);
    if (document.hidden) {
      away = setTimeout(() => {
        source?.close();
        source = null;
        clearTimeout(deaf);
        clearTimeout(retry);
      }, 60000);
    } else if (!source || lostAt) {
      failures = 0;
      connect();
    }
  });

  // --- The filter of the overview ---------------------------------------------

  const filter = $("filter");
  if (filter) {
    let later;
    let asked = 0;
    const apply = async () => {
      const fields = new URLSearchParams(new FormData(filter));
      for (const [name, plain] of [["q", ""], ["show", "all"], ["sort", "name"]]) {
        if (fields.get(name) === plain) fields.delete(name);
      }
      const query = fields.size ? "?" + fields : "";
      const mine = ++asked;
      try {
        const answer = await fetch("/" + query);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (mine !== asked || !answer.ok) return;
        for (const id of ["summary", "groups"]) morph($(id), page.getElementById(id));
        body.dataset.events = page.body.dataset.events;
        history.replaceState(null, "", "/" + query);
        tick();
        connect();
        const rows = document.querySelectorAll("#groups tbody tr").length;
        $("said").textContent = rows === 1 ? "1 group is shown" : rows + " groups are shown";
      } catch {
        lose();
      }
    };
    filter.addEventListener("submit", (event) => { event.preventDefault(); apply(); });
    filter.addEventListener("input", () => { clearTimeout(later); later = setTimeout(apply, 250); });
  }

  // --- Orders -----------------------------------------------------------------

  const kept = "scalehook-token";
  let me = null; // what the server says of the token
  let then = null; // what to go on with after the token was given

  const token = () => sessionStorage.getItem(kept) ?? "";

  class Refusal extends Error {
    constructor(kind, message) {
      super(message);
      this.kind = kind;
    }
  }

  // ask sends a request and returns its data. A refusal carries the server's words;
  // any other error means that there was no answer.
  async function ask(method, path, data, key, bearer = token()) {
    const headers = {};
    if (bearer) headers.Authorization = "Bearer " + bearer;
    if (key) headers["Idempotency-Key"] = key;
    if (data !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch("/api/v1" + path, {
      method, headers, body: data === undefined ? undefined : JSON.stringify(data), cache: "no-store", signal: AbortSignal.timeout(15000),
    });
    let told;
    try {
      told = await answer.json();
    } catch {
      throw new Refusal("internal", "the server answered " + answer.status);
    }
    if (told.status !== "success") throw new Refusal(told.errorType, told.error);
    return told.data;
  }

  function named() {
    $("who").textContent = me ? (me.name ? `${me.name} (${me.role})` : `${me.role}, no token needed`) : "";
    $("sign").textContent = token() ? "Sign out" : "Sign in";
    $("sign").hidden = Boolean(me && !token());
  }

  async function identify() {
    me = null;
    if (token() || body.dataset.insecure === "true") {
      try {
        me = await ask("GET", "/status/whoami");
      } catch (error) {
        if (error instanceof Refusal && error.kind === "unauthorized") sessionStorage.removeItem(kept);
      }
    }
    named();
  }

  function askForToken(next) {
    then = next;
    $("token-wrong").textContent = "";
    $("token-text").value = "";
    $("token").showModal();
  }

  $("sign").addEventListener("click", () => {
    if (!token()) {
      askForToken(null);
      return;
    }
    sessionStorage.removeItem(kept);
    identify();
    tell("Signed out.");
  });

  $("token").querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = $("token-text").value.trim();
    if (!given) {
      $("token-wrong").textContent = "A token is needed.";
      return;
    }
    try {
      const who = await ask("GET", "/status/whoami", undefined, "", given);
      if (who.role !== "operator") throw new Refusal("forbidden", `token ${who.name} has the role ${who.role}, and operator is needed`);
      sessionStorage.setItem(kept, given);
      me = who;
    } catch (error) {
      $("token-wrong").textContent = error instanceof Refusal ? error.message : "No answer from the server.";
      $("token-text").select();
      return;
    } finally {
      named();
    }
    const next = then;
    then = null;
    $("token-text").value = "";
    $("token").close();
    if (next) next();
    else tell(`Signed in as ${me.name}.`);
  });

  let quiet;

  function tell(text) {
    $("result").textContent = text;
    $("result").hidden = false;
    clearTimeout(quiet);
    quiet = setTimeout(() => { $("result").hidden = true; }, 10000);
  }

  // Each order: its name, what it says will happen, the fields it has, its request.
  const many = (n) => (n === 1 ? "1 VM" : n + " VMs");
  const by = (o) => (o.instance ? o.instance.name : `1 VM, chosen by the policy ${o.victim}`);
  const kinds = {
    "scale-out": {
      title: "Scale out", go: "Scale out", fields: ["count", "hold"], count: () => 1,
      what: (o, n) => `Launch ${n} more ${n === 1 ? "VM" : "VMs"} in ${o.group}: desired ${o.desired} to ${o.desired + n}, max ${o.max}.`,
      send: (o, f) => ["POST", "/scale-out", { count: f.count, hold: f.hold }],
    },
    "scale-in": {
      title: "Scale in", go: "Remove", danger: true, fields: ["count", "hold"], count: () => 1,
      what: (o, n) => `Drain and remove ${o.instance || n === 1 ? by(o) : `${many(n)}, chosen by the policy ${o.victim}`} in ${o.group}: desired ${o.desired} to ${o.desired - n}, min ${o.min}.`,
      send: (o, f) => ["POST", "/scale-in", { count: f.count, instance: o.instance?.id, hold: f.hold }],
    },
    desired: {
      title: "Set desired", go: "Set", fields: ["count", "hold"], count: (o) => o.desired,
      what: (o, n) => `Bring ${o.group} from ${o.desired} to ${n}, within ${o.min} and ${o.max}: ` +
        (n > o.desired ? `launch ${many(n - o.desired)}.` : n < o.desired ? `drain and remove ${many(o.desired - n)}.` : "nothing changes."),
      send: (o, f) => ["PUT", "/desired", { count: f.count, hold: f.hold }],
    },
    handover: {
      title: "Hand over", go: "Hand over", danger: true, fields: ["hold"],
      what: (o) => `Put a successor in the place of ${o.instance ? o.instance.name : "the primary"} in ${o.group}, then drain and remove it.`,
      send: (o, f) => ["POST", "/handover", { instance: o.instance?.id, hold: f.hold }],
    },
    pause: {
      title: "Pause", go: "Pause", fields: ["direction", "for", "reason"],
      what: (o) => `No automatic step of ${o.group} begins; orders are carried out.`,
      send: (o, f) => ["POST", "/pause", { direction: f.direction, for: f.for, reason: f.reason }],
    },
    resume: {
      title: "Resume", go: "Resume", fields: [],
      what: (o) => (o.letgo ? `${o.group} was let go. It begins anew and is filled up to min ${o.min} with new VMs.` : `End the pause and the hold of ${o.group}: automatic steps begin again.`),
      send: () => ["POST", "/resume", {}],
    },
    protect: {
      title: "Protect", go: "Protect", fields: [],
      what: (o) => `No scale-in chooses ${o.instance.name} any more.`,
      send: (o) => ["PUT", `/instances/${encodeURIComponent(o.instance.id)}/protection`, { protected: true }],
    },
    unprotect: {
      title: "Take the protection off", go: "Take it off", fields: [],
      what: (o) => `A scale-in may choose ${o.instance.name} again.`,
      send: (o) => ["PUT", `/instances/${encodeURIComponent(o.instance.id)}/protection`, { protected: false }],
    },
    standby: {
      title: "To standby", go: "To standby", fields: [],
      what: (o) => `Take ${o.instance.name} out of traffic after a drain; its VM stays as it is.`,
      send: (o) => ["PUT", `/instances/${encodeURIComponent(o.instance.id)}/standby`, { standby: true }],
    },
    serve: {
      title: "Back into service", go: "Into service", fields: [],
      what: (o) => `Put ${o.instance.name} back into service.`,
      send: (o) => ["PUT", `/instances/${encodeURIComponent(o.instance.id)}/standby`, { standby: false }],
    },
  };

  const dialog = $("order");
  let order = null; // the one that is asked about
  let sending = false;

  function newKey() {
    return "page-" + [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
  }

  // propose asks for the confirmation of an order. What it is about is what the page
  // showed when it was chosen, whatever changes meanwhile.
  function propose(kind, instance) {
    const d = $("orders").dataset;
    const about = {
      kind, instance, group: d.group, desired: Number(d.desired), min: Number(d.min), max: Number(d.max), victim: d.victim, letgo: d.letgo,
    };
    if (!me) {
      askForToken(() => confirm(about));
      return;
    }
    confirm(about);
  }

  function confirm(about) {
    const k = kinds[about.kind];
    order = { about, key: newKey(), sent: false };
    $("order-title").textContent = `${k.title}: ${about.instance ? about.instance.name : about.group}`;
    for (const field of dialog.querySelectorAll("[data-field]")) {
      field.hidden = !k.fields.includes(field.dataset.field) || (field.dataset.field === "count" && Boolean(about.instance));
    }
    $("order-count").value = k.count ? k.count(about) : 1;
    $("order-count").min = about.kind === "desired" ? 0 : 1;
    for (const id of ["order-hold", "order-for"]) $(id).value = "";
    $("order-direction").value = "both";
    $("order-reason").value = "";
    $("order-go").textContent = k.go;
    $("order-go").classList.toggle("danger", Boolean(k.danger));
    refuse("");
    describe();
    dialog.showModal();
    ($("order-count").closest("p").hidden ? $("order-go") : $("order-count")).focus();
  }

  const count = () => Math.max(0, Math.trunc(Number($("order-count").value)) || 0);

  function describe() {
    if (order) $("order-what").textContent = kinds[order.about.kind].what(order.about, order.about.instance ? 1 : count());
  }

  function refuse(text) {
    $("order-wrong").textContent = text;
  }

  // Another number is another order; one that was sent and not answered keeps its key.
  dialog.addEventListener("input", () => {
    if (order.sent) {
      order.key = newKey();
      order.sent = false;
      $("order-go").textContent = kinds[order.about.kind].go;
    }
    refuse("");
    describe();
  });

  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (sending) return;
    const now = order;
    const k = kinds[now.about.kind];
    const fields = {
      count: now.about.instance ? 1 : count(),
      hold: $("order-hold").value || undefined,
      direction: $("order-direction").value,
      for: $("order-for").value || undefined,
      reason: $("order-reason").value.trim() || undefined,
    };
    const [method, path, data] = k.send(now.about, fields);
    sending = true; // the button is not disabled, which would take the focus from it
    $("order-go").setAttribute("aria-busy", "true");
    try {
      const told = await ask(method, `/groups/${encodeURIComponent(now.about.group)}${path}`, data, now.key);
      if (order === now) dialog.close();
      tell(`${now.about.group}: ${told.message}${told.replayed ? " (it was taken before)" : ""}`);
    } catch (error) {
      // The dialog may be about another order by now, which this is no answer to.
      const shown = order === now && dialog.open;
      const say = shown ? refuse : (text) => tell(`${k.title}, ${now.about.group}: ${text}`);
      if (error instanceof Refusal) {
        say(`Refused: ${error.message}`);
        if (error.kind === "unauthorized") {
          sessionStorage.removeItem(kept);
          identify();
        }
      } else {
        now.sent = true;
        if (shown) $("order-go").textContent = "Send it again";
        say(`No answer: whether it was taken is not known.${shown ? " Sent again, the same order is never carried out twice." : ""}`);
      }
    } finally {
      sending = false;
      $("order-go").removeAttribute("aria-busy");
    }
  });

  // The event may come when the dialog is open again already.
  dialog.addEventListener("close", () => { if (!dialog.open) order = null; });

  // The orders for one instance are chosen in a dialog of their own.
  let chosen = null;

  function choose(button) {
    const d = button.dataset;
    chosen = { id: d.instance, name: d.name };
    $("choose-title").textContent = d.name;
    const possible = {
      "scale-in": true,
      handover: d.state === "in_service",
      protect: !d.protected,
      unprotect: Boolean(d.protected),
      standby: d.state === "in_service",
      serve: d.state === "standby",
    };
    for (const b of $("choose").querySelectorAll("[data-choice]")) b.hidden = !possible[b.dataset.choice];
    $("choose").showModal();
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.order) propose(button.dataset.order);
    else if (button.dataset.instance) choose(button);
    else if (button.dataset.choice) {
      $("choose").close();
      propose(button.dataset.choice, chosen);
    } else if ("close" in button.dataset) button.closest("dialog").close();
  });

  tick();
  setInterval(tick, 1000);
  say();
  identify();
  connect();
})();
