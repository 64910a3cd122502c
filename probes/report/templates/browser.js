// The item browser. Everything from data is set as text, never as markup.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(`ib-${id}`);
  const data = JSON.parse($("data").textContent);
  const pictures = JSON.parse($("pictures").textContent);
  const PAGE = 50;
  const SIGNS = { right: "✓", wrong: "✗", unparsed: "?", failed: "!", mixed: "½", withheld: "·", none: "" };
  const WORDS = { mixed: "right some of the times it was asked", withheld: "answered; the right answer is withheld", none: "not asked" };
  const state = {
    view: 0, frames: 0, arm: "", member: "", text: "", stratum: "", conditions: {}, flag: "",
    item: null, page: 0,
  };
  let found = []; // items that pass the filters, in order
  const haystacks = new Map();

  // ---------------------------------------------------------------- making elements
  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (name.startsWith("--")) made.style.setProperty(name, value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
    }
    made.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
    return made;
  }
  // Fill a select; where there is nothing to choose, it is not there.
  function choices(id, pairs, chosen) {
    $(id).replaceChildren(
      ...pairs.map(([value, label]) => el("option", { value, selected: value === chosen }, label)));
    $(`${id}-field`).hidden = pairs.filter(([value]) => value !== "").length < 2;
  }
  const letter = (at) => (at < 26 ? String.fromCharCode(65 + at) : String(at + 1));
  const words = (name) => name.replaceAll("_", " ");
  const text = (at) => (at < 0 ? "" : data.texts[at]);

  // ---------------------------------------------------------------- reading data
  const view = () => data.views[state.view];
  const roles = () => view().members.map(([role]) => role);
  // Answers of one member in one arm: one, or one per donor, text and rotation of the options; none where it was not asked.
  function answers(item, arm, role) {
    const byArm = (item.v[state.view] || {})[state.frames];
    return byArm ? byArm[arm][role] : [];
  }
  const read = ([stimulus, donor, status, choice, correct, p, margin, reply, error, rotation, extras, draw]) => ({
    stimulus, donor: text(donor), status, choice, correct, p, margin, reply: text(reply),
    error: text(error), rotation, draw: draw || 0, extras: new Map((extras || []).map(([name, value]) => [text(name), value])),
  });
  const verdict = ({ status, correct }) =>
    status === 2 ? "failed" : status === 1 ? "unparsed" : correct < 0 ? "withheld" : correct ? "right" : "wrong";
  function verdicts(item, arm, role) {
    const all = [...new Set(answers(item, arm, role).map((one) => verdict(read(one))))];
    if (!all.length) return "none";
    if (all.length === 1) return all[0];
    return all.includes("right") ? "mixed" : all.includes("failed") ? "failed" : "wrong";
  }
  const label = (kind) => WORDS[kind] || kind;
  const mark = (kind) => el("span", { class: "ib-mark", "data-verdict": kind, title: label(kind) },
    el("span", { "aria-hidden": "true" }, SIGNS[kind]), el("span", { class: "ib-sr" }, label(kind)));

  // All text of an item that is searched; kept until another view or frame count is chosen.
  function haystack(item) {
    if (!haystacks.has(item)) {
      const texts = new Set([item.id, item.q, ...item.o, item.s, item.c]);
      for (const one of view().arms.flatMap((_, a) => roles().flatMap((_, r) => answers(item, a, r)))) {
        for (const part of data.stimuli[one[0]].p || []) if (part < 0) texts.add(data.texts[-1 - part]);
        texts.add(text(one[7]));
      }
      haystacks.set(item, [...texts].join("\n").toLowerCase());
    }
    return haystacks.get(item);
  }

  // ---------------------------------------------------------------- filters
  // A condition is "arm role" -> right or wrong; unparsed and failed answers are wrong, as in the tables.
  function meets(item, conditions, flag) {
    for (const [column, wanted] of Object.entries(conditions)) {
      const [a, r] = column.split(" ").map(Number);
      const all = answers(item, a, r).map((one) => one[4]);
      if (!all.length || !all.every((one) => one === (wanted === "right" ? 1 : 0))) return false;
    }
    const chosen = (_, r) => answers(item, referenceArm(), r).map((one) => one[3]).join();
    if (flag === "differ") return new Set(roles().map(chosen)).size > 1;
    return flag !== "unusable" ||
      view().arms.some((_, a) => roles().some((_, r) => answers(item, a, r).some((one) => one[2])));
  }
  // The arm that others are compared with; the first one where there is none.
  const referenceArm = () => Math.max(0, view().arms.findIndex((arm) => arm.reference === "" && arm.frames === "own"));
  function presets() {
    const base = referenceArm();
    const name = words(view().arms[base].name);
    const both = (a, r, one, b, s, other) => ({ [`${a} ${r}`]: one, [`${b} ${s}`]: other });
    const image = roles().indexOf("image");
    const made = [];
    if (image >= 0) roles().forEach((role, r) => r !== image && made.push(
      [`image wrong, ${role} right (${name})`, both(base, image, "wrong", base, r, "right"), ""],
      [`image right, ${role} wrong (${name})`, both(base, image, "right", base, r, "wrong"), ""]));
    view().arms.forEach((arm, a) => {
      if (arm.infills !== "own" || arm.frames !== "own" || arm.presentation !== "interleaved") return;
      const title = arm.name === "vcot" ? "vCoT" : words(arm.name);
      roles().forEach((role, r) => {
        made.push([`${title}: ${role} became right`, both(base, r, "wrong", a, r, "right"), ""]);
        made.push([`${title}: ${role} became wrong`, both(base, r, "right", a, r, "wrong"), ""]);
      });
    });
    if (roles().length > 1) made.push([`members differ (${name})`, {}, "differ"]);
    made.push(["unparsed or failed", {}, "unusable"]);
    return made;
  }
  const sorted = (conditions) => JSON.stringify(Object.entries(conditions).sort());
  const currentItems = () => data.items.filter((item) => (item.v[state.view] || {})[state.frames]);

  function drawFilters() {
    const items = currentItems();
    $("chips").replaceChildren(...presets().map(([name, conditions, flag]) => {
      const on = state.flag === flag && sorted(state.conditions) === sorted(conditions);
      const count = items.filter((item) => meets(item, conditions, flag)).length;
      return el("button", {
        type: "button", "aria-pressed": String(on), "data-filter": name,
        onclick: () => {
          Object.assign(state, on ? { conditions: {}, flag: "" } : { conditions: { ...conditions }, flag });
          refilter();
          [...$("chips").children].find((chip) => chip.dataset.filter === name).focus();
        },
      }, name, " ", el("small", {}, String(count)));
    }));
    const head = el("tr", {}, el("th", {}, "member"),
      view().arms.map((arm) => el("th", { scope: "col" }, words(arm.name))));
    const body = roles().map((role, r) => el("tr", {}, el("th", { scope: "row" }, role),
      view().arms.map((arm, a) => el("td", {}, triState(arm, a, role, r)))));
    $("tri").replaceChildren(el("thead", {}, head), el("tbody", {}, body));
  }
  function triState(arm, a, role, r) {
    const column = `${a} ${r}`;
    const wanted = state.conditions[column] || "";
    return el("button", {
      type: "button", "data-column": column, "data-wanted": wanted || null,
      "aria-label": `${words(arm.name)}, ${role} member: ${wanted || "any"}`,
      onclick: () => {
        state.conditions[column] = { "": "right", right: "wrong" }[wanted];
        if (wanted === "wrong") delete state.conditions[column];
        refilter();
        $("tri").querySelector(`[data-column="${column}"]`).focus();
      },
    }, wanted ? `${SIGNS[wanted]} ${wanted}` : "any");
  }
  function refilter() {
    // All words, in any order; a phrase in double quotes is one.
    const searched = [...state.text.toLowerCase().matchAll(/"([^"]+)"|[^\s"]+/g)].map((one) => one[1] || one[0]);
    const all = currentItems();
    found = all.filter((item) =>
      (!state.stratum || item.s === state.stratum) && meets(item, state.conditions, state.flag) &&
      (!searched.length || searched.every((word) => haystack(item).includes(word))));
    if (!found.includes(state.item)) state.item = found[0] || null;
    state.page = Math.max(0, Math.floor(found.indexOf(state.item) / PAGE));
    $("count").textContent = `${found.length} of ${all.length} items`;
    drawFilters();
    draw();
  }

  // ---------------------------------------------------------------- the list
  function drawList() {
    const { arms } = view();
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const part = found.slice(state.page * PAGE, (state.page + 1) * PAGE);
    $("legend").textContent =
      `Signs: columns are ${arms.map((arm) => words(arm.name)).join(", ")}; rows are ${roles().join(", ")}.`;
    $("list").replaceChildren(...part.map((item) => {
      const marks = roles().flatMap((role, r) => arms.map((arm, a) => {
        const kind = verdicts(item, a, r);
        return el("span", { class: "ib-mark", "data-verdict": kind,
          title: `${words(arm.name)}, ${role}: ${label(kind)}` }, SIGNS[kind]);
      }));
      return el("li", {}, el("button", {
        type: "button", class: arms.length > 6 ? "ib-wide" : null,
        "aria-current": String(item === state.item), onclick: () => choose(item),
      },
      el("span", { class: "ib-row-q" }, item.q || item.id),
      el("span", { class: "ib-row-sub" }, [item.s, item.id].filter(Boolean).join(" · ")),
      el("span", { class: "ib-grid", "--ib-columns": arms.length, "aria-hidden": "true" }, marks)));
    }));
    $("pages").hidden = pages < 2;
    $("page").textContent = `page ${state.page + 1} of ${pages}`;
    $("page-back").disabled = state.page === 0;
    $("page-on").disabled = state.page >= pages - 1;
    const [list, current] = [$("list"), $("list").querySelector('[aria-current="true"]')];
    const top = current ? current.offsetTop - list.offsetTop : 0;
    if (top < list.scrollTop || (current && top + current.offsetHeight > list.scrollTop + list.clientHeight)) {
      list.scrollTop = top - list.clientHeight / 3;
    }
  }

  // ---------------------------------------------------------------- what was shown
  const FRAMES = { own: "own frames", donor: "the donor's frames", none: "no frames",
    shuffled: "own frames in another order", reversed: "own frames backwards",
    single: "the middle frame alone" };
  const TEXTS = { none: "no text between", own: "own infills", donor: "the donor's infills",
    filler: "neutral text as long as the own infills" };
  const BETWEEN = { own: "infill", donor: "donor's infill", filler: "filler" };
  function describeArm(arm) {
    if (!arm.frames) return "the manifest does not describe this arm";
    const layout = arm.presentation === "interleaved" ? "" : `, ${words(arm.presentation)}`;
    const against = arm.reference ? `; compared with ${words(arm.reference)}` : "";
    return `${FRAMES[arm.frames]}, ${TEXTS[arm.infills]}${layout}${against}`;
  }
  function frameLabel(item, arm, stimulus, nth, rotation) {
    const slots = stimulus.s || [];
    if (stimulus.composite && nth === 0) {
      return arm.presentation === "grid" ? "all frames in one picture" : "the problem in one picture";
    }
    const beyond = nth - (stimulus.composite ? 1 : slots.length);
    if (beyond >= 0) return `option ${letter((beyond + rotation) % Math.max(1, item.op.length))}`;
    const owner = arm.frames === "donor" ? "donor's frame" : "frame";
    const label = `${owner} ${slots[nth] + 1} of ${state.frames}`;
    return slots[nth] === nth || arm.frames === "single" ? label : `${label}, shown as no. ${nth + 1}`;
  }
  const source = (frame) => (pictures.webp[frame] ? `data:image/webp;base64,${pictures.webp[frame]}` : "");
  const path = (frame) => `${text(data.frames[frame][1])}/frames/${data.frames[frame][0]}.png`;

  function drawStimulus(item, arm, number, rotation) {
    const stimulus = data.stimuli[number];
    if ("x" in stimulus) return el("p", { class: "ib-warning", "data-unknown": true }, text(stimulus.x));
    const parts = stimulus.p;
    let question = item.q ? parts.findLastIndex((part) => part < 0 && data.texts[-1 - part].includes(item.q)) : -1;
    if (question < 0) question = parts.findLastIndex((part) => part < 0);
    const shown = []; // frames in order, for the large view
    const [out, bare] = [[], stimulus.b || []];
    const bareGap = ([, gap, why]) => el("li", { class: "ib-bare" },
      el("strong", {}, `no text after frame ${gap + 1}`), el("br"), text(why));
    parts.forEach((part, at) => {
      out.push(...bare.filter(([after]) => after === at).map(bareGap));
      if (part >= 0) {
        shown.push([part, frameLabel(item, arm, stimulus, shown.length, rotation)]);
        out.push(drawFrame(shown, shown.length - 1, stimulus.composite && shown.length === 1));
      } else if (at > question) {
        out.push(el("li", { class: "ib-after" }, el("div", { class: "ib-words" }, data.texts[-1 - part])));
      } else out.push(drawWords(item, arm, data.texts[-1 - part], at === question));
    });
    const rest = bare.filter(([after]) => after < 0).map(bareGap);
    return [el("ol", { class: "ib-parts" }, out), rest.length ? el("ul", { class: "ib-parts" }, rest) : null];
  }
  function drawFrame(shown, nth, composite) {
    const [frame, label] = shown[nth];
    const src = source(frame);
    const inner = src ? el("img", { src, alt: label, decoding: "async" })
      : el("span", { class: "ib-absent" }, `not here: ${pictures.missing[frame] || "no picture"}`);
    return el("li", { class: composite ? "ib-frame ib-composite" : "ib-frame" },
      el("button", { type: "button", "aria-label": `${label}, enlarge`, onclick: () => enlarge(shown, nth) }, inner),
      el("span", { class: "ib-caption" }, label));
  }
  function drawWords(item, arm, content, isQuestion) {
    if (isQuestion) {
      const at = item.q ? content.indexOf(item.q) : -1;
      const inner = at < 0 ? [content]
        : [content.slice(0, at), el("strong", {}, item.q), content.slice(at + item.q.length)];
      // The same under most arms: it is folded to save space.
      const open = content.length < 200 || arm === view().arms[0] || at > 20;
      return el("li", { class: "ib-asked" }, el("details", { open },
        el("summary", {}, "the question as it was put"), el("div", { class: "ib-words" }, inner)));
    }
    return el("li", { class: content.length > 90 ? "ib-between" : "ib-between ib-short" },
      el("div", { class: "ib-words" }, content),
      el("span", { class: "ib-caption" }, BETWEEN[arm.infills] || "text"));
  }
  function enlarge(shown, nth) {
    const show = (at) => {
      const [frame, label] = shown[at];
      const src = source(frame);
      $("big-picture").hidden = !src;
      if (src) $("big-picture").src = src;
      $("big-picture").alt = label;
      $("big-caption").replaceChildren(el("strong", {}, label),
        src ? ` (small copy, ${pictures.note}). ` : ` (${pictures.missing[frame] || "no picture"}). `,
        "Its pixels: ", el("code", {}, path(frame)));
      $("big-back").disabled = at === 0;
      $("big-on").disabled = at === shown.length - 1;
      $("big-back").onclick = () => show(at - 1);
      $("big-on").onclick = () => show(at + 1);
      $("big").onkeydown = (event) => {
        const to = { ArrowLeft: at - 1, ArrowRight: at + 1 }[event.key];
        if (to !== undefined) event.stopPropagation();
        if (to >= 0 && to < shown.length) show(to);
      };
    };
    show(nth);
    $("big").showModal();
  }

  // ---------------------------------------------------------------- what was answered
  function drawAnswers(item, shown) {
    const count = Math.max(item.o.length, ...shown.map(([, , one]) => (one.p || []).length));
    const bars = { image: "var(--ib-image)", video: "var(--ib-video)", control: "var(--ib-control)" };
    const title = shown.some(([, , one]) => one.p) ? "option and its probability" : "option";
    const head = el("tr", {}, el("th", { scope: "col" }, el("small", {}, title)),
      shown.map(([role, member, one]) => el("th", { scope: "col" }, mark(verdict(one)), " ",
        el("strong", {}, `${role} member`), ` ${label(verdict(one))} `, el("small", {}, member))));
    const rows = Array.from({ length: count }, (_, at) => el("tr", { "data-right": at === item.a },
      el("th", { scope: "row", title: item.o[at] },
        at === item.a ? el("span", {}, "✓", el("span", { class: "ib-sr" }, "right "), " ") : null,
        el("span", { class: "ib-letter" }, letter(at)), item.o[at] === letter(at) ? "" : item.o[at] || ""),
      shown.map(([role, , one]) => {
        const chosen = one.choice === at;
        const p = one.p ? one.p[at] : null;
        return el("td", {}, p === null && !chosen ? "" : el("span", { class: "ib-p", "data-chosen": chosen },
          p === null ? null : [el("i", { "--ib-share": p, "--ib-bar": bars[role], "aria-hidden": "true" }),
            el("b", {}, p.toFixed(3))],
          el("span", { class: "ib-chosen" }, chosen ? "◀ chosen" : "")));
      })));
    const signed = (x) => (x === null ? "" : (x > 0 ? "+" : "") + x.toFixed(3).replace("-", "−"));
    const quoted = (words) => (words ? el("div", { class: "ib-reply" }, words) : "");
    const extras = new Set(shown.flatMap(([, , one]) => [...one.extras.keys()]));
    const foot = [["margin of the right answer, nats", (one) => signed(one.margin)],
      ["reply", (one) => quoted(one.reply)], ["error", (one) => quoted(one.error)],
      ...[...extras].map((name) => [name, (one) => one.extras.get(name) || ""])]
      .map(([label, value]) => [label, shown.map(([, , one]) => value(one))])
      .filter(([, values]) => values.some((value) => value !== ""))
      .map(([label, values]) => el("tr", {}, el("th", { scope: "row" }, label), values.map((value) => el("td", {}, value))));
    return el("div", { class: "ib-scroll" }, el("table", { class: "ib-answers" },
      el("thead", {}, head), el("tbody", {}, rows), foot.length ? el("tfoot", {}, foot) : null));
  }
  // One card per arm, donor, text and rotation; members that were shown the same share one stimulus.
  function drawArm(item, arm, a) {
    const groups = new Map();
    view().members.forEach(([role, member], r) => {
      if (state.member && state.member !== role) return;
      for (const raw of answers(item, a, r)) {
        const one = read(raw);
        const group = JSON.stringify([one.donor, one.draw, one.rotation]);
        if (!groups.has(group)) groups.set(group, new Map());
        const sets = groups.get(group);
        if (!sets.has(one.stimulus)) sets.set(one.stimulus, []);
        sets.get(one.stimulus).push([role, member, one]);
      }
    });
    const split = [...groups].map(([group, sets]) => [...JSON.parse(group), sets]);
    return split.map(([donor, draw, rotation, sets]) => el("section", { class: "ib-arm", "data-arm": arm.name },
      el("header", {}, el("h4", {}, words(arm.name)), el("span", {}, describeArm(arm)),
        rotation ? el("span", {}, `listed from option ${letter(rotation)} on; letters below are the item's`) : null,
        donor ? el("span", {}, "donor: ", donorLink(donor)) : null,
        draw ? el("span", {}, `text ${draw + 1}, sampled`) : null),
      [...sets].map(([stimulus, shown]) => [
        sets.size > 1 ? el("p", { class: "ib-for" }, `shown to the ${shown.map(([role]) => role).join(", ")} member`) : null,
        drawStimulus(item, arm, stimulus, rotation), drawAnswers(item, shown)])));
  }
  function donorLink(donor) {
    const other = currentItems().find((item) => item.id === donor);
    if (!other) return el("code", {}, donor);
    const go = (event) => { event.preventDefault(); choose(other); $("main").scrollIntoView(); };
    return el("a", { href: link(other), onclick: go }, el("code", {}, donor));
  }
  function drawGlance(item) {
    const { arms, members } = view();
    const asked = arms.map((arm, a) => [arm, a]).filter(([, a]) => members.some((_, r) => answers(item, a, r).length));
    if (asked.length < 2) return null;
    const scored = view().scoring !== "generate" && item.a !== null;
    return el("table", { class: "ib-glance" },
      el("caption", {}, scored ? "letter chosen, probability of the right answer" : "letter chosen"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "arm"),
        members.map(([role]) => el("th", { scope: "col" }, role)))),
      el("tbody", {}, asked.map(([arm, a]) => el("tr", {}, el("th", { scope: "row" }, words(arm.name)),
        members.map((_, r) => {
          const all = answers(item, a, r).map(read);
          const [first] = all;
          const p = first && first.p && item.a !== null ? ` ${first.p[item.a].toFixed(2)}` : "";
          const chosen = first && first.choice >= 0 ? letter(first.choice) : "";
          return el("td", {}, mark(verdicts(item, a, r)), all.length > 1 ? ` asked ${all.length} times` : ` ${chosen}${p}`);
        })))));
  }
  function drawItem() {
    const item = state.item;
    if (!item) return $("item").replaceChildren("No item meets these filters.");
    const facts = [["item", item.id], ["cluster", item.c], ["stratum", item.s], ["media", item.media], ...item.m]
      .filter(([, value]) => value);
    const pictured = item.op.map((frame, at) => [frame, `option ${letter(at)}`]);
    const options = item.o.map((option, at) => el("li", { "data-right": at === item.a },
      el("span", { class: "ib-letter" }, letter(at)), option === letter(at) ? "" : option,
      pictured.length ? el("ul", {}, drawFrame(pictured, at)) : null,
      at === item.a ? el("span", { class: "ib-tag" }, "✓ right answer") : null));
    if (item.a === null) options.push(el("li", {}, "The right answer is withheld."));
    $("item").replaceChildren(...[
      el("h3", { class: "ib-question" }, item.q || item.id),
      el("div", { class: "ib-top" }, el("ol", { class: `ib-options ${item.op.length ? "ib-pictured" : ""}` }, options),
        drawGlance(item)),
      el("dl", { class: "ib-facts" },
        facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      view().prefix && el("p", { class: "ib-for" }, "Forced before the answer: ", el("code", {}, view().prefix)),
      ...view().arms.flatMap((arm, a) => (state.arm && state.arm !== arm.name ? [] : drawArm(item, arm, a))),
    ].filter(Boolean));
  }

  // ---------------------------------------------------------------- moving about
  function link(item) {
    const named = new URLSearchParams({ item: item.id, frames: state.frames });
    if (data.views.length > 1) named.set("run", view().label);
    return `#${named}`;
  }
  function draw() {
    const at = found.indexOf(state.item);
    $("previous").disabled = at <= 0;
    $("next").disabled = at < 0 || at >= found.length - 1;
    $("place").textContent = at < 0 ? "" : `item ${at + 1} of ${found.length}`;
    $("link").hidden = at < 0;
    if (at >= 0) $("link").href = link(state.item);
    drawList();
    drawItem();
  }
  function choose(item) {
    const focused = $("list").contains(document.activeElement);
    reveal(item);
    if (focused) $("list").querySelector('[aria-current="true"]').focus({ preventScroll: true });
    setAddress();
  }
  function reveal(item) {
    if (!found.includes(item)) clear();
    state.item = item;
    state.page = Math.floor(found.indexOf(item) / PAGE);
    $("lost").hidden = true;
    draw();
  }
  function setAddress() {
    // A page inside another page may have no address that can be changed.
    try { history.replaceState(null, "", link(state.item)); } catch { /* the address stays */ }
  }
  const walk = (by) => {
    const next = found[found.indexOf(state.item) + by];
    if (next) choose(next);
  };
  function clear() {
    Object.assign(state, { text: "", stratum: "", conditions: {}, flag: "" });
    $("search").value = $("stratum").value = "";
    refilter();
  }
  function setView(at, frames) {
    Object.assign(state, { view: at, conditions: {}, flag: "", stratum: "", arm: "", member: "" });
    const counts = view().frames;
    state.frames = counts.includes(frames) ? frames : counts[0];
    haystacks.clear();
    const strata = [...new Set(currentItems().map((item) => item.s))].filter(Boolean).sort();
    const all = ["", "all"];
    choices("view", data.views.map((one, n) => [String(n), one.label]), String(at));
    choices("frames", counts.map((count) => [String(count), String(count)]), String(state.frames));
    choices("stratum", [all, ...strata.map((one) => [one, one])], "");
    choices("arm", [all, ...view().arms.map((arm) => [arm.name, words(arm.name)])], "");
    choices("member", [all, ...view().members.map(([role, name]) => [role, `${role} (${name})`])], "");
  }
  // Other parts of the page have anchors of their own: only `#item=...` belongs to the browser.
  function followAddress() {
    const named = new URLSearchParams(location.hash.slice(1));
    const id = named.get("item");
    if (id === null) return;
    const wanted = named.has("run") ? data.views.findIndex((one) => one.label === named.get("run")) : -1;
    const task = named.get("task");
    const has = (item, v) => item.id === id && (task === null || item.task === task) && item.v[v];
    const order = [wanted, state.view, ...data.views.keys()].filter((v) => v >= 0);
    const at = order.find((v) => data.items.some((item) => has(item, v)));
    if (at !== undefined) {
      const item = data.items.find((one) => has(one, at));
      const counts = Object.keys(item.v[at]).map(Number);
      const frames = [Number(named.get("frames")), state.frames, counts[0]].find((n) => counts.includes(n));
      if (at !== state.view || frames !== state.frames) {
        setView(at, frames);
        refilter();
      }
      reveal(item);
    }
    $("lost").hidden = at !== undefined;
    $("lost").textContent = `There is no item ${id} in this browser.`;
    $("main").scrollIntoView();
    $("root").focus({ preventScroll: true });
  }

  // ---------------------------------------------------------------- wiring
  const on = (id, kind, act) => $(id).addEventListener(kind, act);
  let typing;
  on("search", "input", ({ target }) => {
    clearTimeout(typing);
    typing = setTimeout(() => { state.text = target.value; refilter(); }, 120);
  });
  on("view", "change", ({ target }) => { setView(Number(target.value), state.frames); refilter(); });
  on("frames", "change", ({ target }) => { state.frames = Number(target.value); haystacks.clear(); refilter(); });
  on("stratum", "change", ({ target }) => { state.stratum = target.value; refilter(); });
  on("arm", "change", ({ target }) => { state.arm = target.value; drawItem(); });
  on("member", "change", ({ target }) => { state.member = target.value; drawItem(); });
  on("clear", "click", clear);
  on("previous", "click", () => walk(-1));
  on("next", "click", () => walk(1));
  on("page-back", "click", () => { state.page -= 1; drawList(); });
  on("page-on", "click", () => { state.page += 1; drawList(); });
  on("big-close", "click", () => $("big").close());
  on("link", "click", (event) => { event.preventDefault(); setAddress(); });
  // Keyboard shortcuts work only while the focus is in the browser; the page keeps its own.
  on("root", "keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    const by = { j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1 }[event.key];
    if (by) { event.preventDefault(); walk(by); }
  });
  window.addEventListener("hashchange", followAddress);
  $("app").hidden = false;
  setView(0, data.views[0].frames[0]);
  refilter();
  followAddress();
})();
