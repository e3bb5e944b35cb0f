const run = JSON.parse(document.getElementById("data").textContent);
const { lanes, kinds, texts, events, lines, spans, broken } = run;
const by = (id) => document.getElementById(id);
const canvas = document.querySelector("canvas");
const pen = canvas.getContext("2d");
const [AT, LANE, KIND, TEXT, BYTES] = [0, 1, 2, 3, 4];
const [PLACE, LIFE, WHOSE, SAYS, SENT, READS] = [0, 1, 2, 3, 4, 5];
const [GUTTER, AXIS, ROOM] = [150, 30, 74];
const QUIET = 2e6; // longer quiet than this is drawn as long as this
const PATHS = 1200; // more pieces of paths than this are a fog, not a picture
const name = (event) => kinds[event[KIND]].name;
const isAct = (event) => kinds[event[KIND]].class === "act";
const seconds = (us) => (us / 1e6).toFixed(6) + " s";
const span = (us) => us < 1e3 ? us + " µs" : us < 1e6 ? +(us / 1e3).toFixed(1) + " ms" : +(us / 1e6).toFixed(1) + " s";
const some = (n, what) => n.toLocaleString("en") + " " + what + (n === 1 ? "" : "s");

// The axis: half of it is time, cut short where nothing happens; half goes to the events, one step each, so that those of
// one moment stand side by side in their order. It runs from 0 to 1.

const others = [0, ...run.samples.map((s) => s[0]), ...broken.map((b) => b.at), ...(run.healed ?? [])].filter((t) => t !== null);
const moments = [...events.map((e, i) => [e[AT], i]), ...others.map((t) => [t, -1])].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
const step = 0.5 / Math.max(1, events.length);
const gaps = [], pos = [], knots = [];
{
  let total = 0, x = 0.012, before = 0; // a little room for what is at the very start
  for (const [t] of moments) { total += Math.min(t - before, QUIET); before = t; }
  before = 0;
  for (const [t, i] of moments) {
    const wide = 0.5 * Math.min(t - before, QUIET) / (total || 1);
    if (t - before > QUIET) gaps.push([x, x + wide, t - before]);
    x += wide;
    if (i >= 0) pos[i] = x += step;
    knots.push([t, x]);
    before = t;
  }
}
const END = knots[knots.length - 1][1] + 0.012;
/** Where the sorted list first has `key(item) >= value`. */
function first(list, value, key) {
  let [low, high] = [0, list.length];
  while (low < high) { const mid = (low + high) >> 1; if (key(list[mid]) < value) low = mid + 1; else high = mid; }
  return low;
}
function between(list, value, from, to) {
  const k = first(list, value, (knot) => knot[from]);
  if (k === 0) return list[0]?.[to] ?? 0;
  if (k === list.length) return list[k - 1][to];
  const [a, b] = [list[k - 1], list[k]];
  return a[to] + (b[to] - a[to]) * (value - a[from]) / (b[from] - a[from] || 1);
}
const place = (t) => between(knots, t, 0, 1);
const time = (x) => between(knots, x, 1, 0);

const rows = lanes.map(() => []); // events of each lane
events.forEach((e, i) => rows[e[LANE]].push(i));
const ofEvent = events.map(() => []); // lines that an event sent or received
lines.forEach((line, n) => { for (const i of new Set([line[SENT], ...line[READS]])) if (i !== null) ofEvent[i].push(n); });
const roomAt = lines.map((line) => line[READS].length ? pos[line[READS][0]] - step / 2 : null);
const inRoom = lines.map((_, n) => n).filter((n) => roomAt[n] !== null).sort((a, b) => roomAt[a] - roomAt[b]);
const lives = rows.map((row) => { // from one event to another, or to the end
  const own = [];
  for (const i of row) {
    const of = isAct(events[i]) ? "" : name(events[i]), open = own.length && own[own.length - 1][1] === null;
    if (of === "Connected" && !open) own.push([i, null]);
    if (["ReceivedEnd", "ReceivedError", "Reset", "Dropped"].includes(of) && open) own[own.length - 1][1] = i;
  }
  return own;
});
const missedAt = new Map(spans.filter((s) => s.kind === "missed").map((s) => [s.to, s.text]));

// What is seen: a part of the axis, what is pointed at and what is kept, what is looked for.

let view = [0, END], wide = 0, high = 0, laneHigh = 30, color = {}, hatches = {}, drawn = [];
let hover = null, kept = null, law = null, found = null, lit = null, pointer = null, printing = false;
const toX = (x) => GUTTER + (x - view[0]) / (view[1] - view[0]) * (wide - GUTTER - 12);
const fromX = (px) => view[0] + (px - GUTTER) / (wide - GUTTER - 12) * (view[1] - view[0]);
const top = (lane) => lane === 0 ? AXIS : AXIS + ROOM + (lane - 1) * laneHigh;
const base = (lane) => lane === 0 ? AXIS + 40 : top(lane) + Math.round(laneHigh / 2) + 0.5;
const linesOf = (what) => what === null ? [] : what.line !== undefined ? [what.line] : ofEvent[what.event];

function look(from, to) {
  const least = Math.min(END, 12 * step), long = Math.min(END, Math.max(least, to - from));
  const start = Math.max(0, Math.min(END - long, from + (to - from - long) / 2));
  view = [start, start + long];
  draw();
}
const zoom = (by, x = (view[0] + view[1]) / 2) => look(x - (x - view[0]) * by, x + (view[1] - x) * by);
function show(x) {
  const long = view[1] - view[0];
  if (x < view[0] + long * 0.03 || x > view[1] - long * 0.03) look(x - long / 2, x + long / 2); else draw();
}

function resize() {
  const style = getComputedStyle(document.documentElement);
  for (const c of ["paper", "panel", "lane", "rule", "ink", "faint", "sent", "read", "room", "bad", "badwash", "missed", "pause",
    "held", "healed", "down", "act", "pick"]) color[c] = style.getPropertyValue("--" + c).trim();
  hatches = {};
  const sharp = printing ? 3 : window.devicePixelRatio || 1;
  wide = printing ? 1040 : canvas.clientWidth;
  const room = window.innerHeight - (canvas.getBoundingClientRect().top + window.scrollY) - AXIS - ROOM - 120;
  laneHigh = Math.max(18, Math.min(72, Math.floor((printing ? 370 : room) / Math.max(1, lanes.length - 1))));
  high = AXIS + ROOM + laneHigh * (lanes.length - 1) + 4;
  canvas.style.height = high + "px";
  canvas.width = wide * sharp;
  canvas.height = high * sharp;
  pen.setTransform(sharp, 0, 0, sharp, 0, 0);
  legend();
  draw();
}

// Drawing, from the ground up.

function hatch(of, to = pen) {
  if (!hatches[of]) {
    const tile = document.createElement("canvas"), p = tile.getContext("2d");
    tile.width = tile.height = 8;
    p.strokeStyle = color[of]; p.lineWidth = 1.2; p.globalAlpha = 0.75;
    for (const d of [-8, 0, 8]) { p.beginPath(); p.moveTo(d, 8); p.lineTo(d + 8, 0); p.stroke(); }
    hatches[of] = tile;
  }
  return to.createPattern(hatches[of], "repeat");
}
function box(x, y, w, h, fill, alpha = 1, to = pen) {
  to.globalAlpha = alpha; to.fillStyle = fill; to.fillRect(x, y, w, h); to.globalAlpha = 1;
}
function stroke(points, style, width = 1, alpha = 1, dash = [], to = pen) {
  to.globalAlpha = alpha; to.strokeStyle = style; to.lineWidth = width; to.setLineDash(dash);
  to.beginPath(); points.forEach(([x, y], i) => i ? to.lineTo(x, y) : to.moveTo(x, y)); to.stroke();
  to.globalAlpha = 1; to.setLineDash([]);
}
const SANS = "system-ui, 'Segoe UI', 'Liberation Sans', sans-serif", MONO = "ui-monospace, 'DejaVu Sans Mono', monospace";
function write(text, x, y, style, font = "11px " + SANS, align = "left", most = Infinity) {
  pen.font = font; pen.textAlign = align; pen.fillStyle = style; pen.textBaseline = "middle";
  if (pen.measureText(text).width > most) {
    const n = Math.floor(most / pen.measureText("m").width) - 1;
    if (n < 3) return 0;
    text = text.slice(0, n) + "…";
  }
  pen.fillText(text, x, y);
  return pen.measureText(text).width;
}

const SPANS = {
  pause: ["pause", "reader stopped", (s) => "stopped reading"], held: ["held", "held back by the network", (s) => "held back"],
  missed: ["missed", "let go, and told so", (s) => "missed " + s.text], ghost: ["bad", "gone, the others not yet told", (s) => "not yet told"],
  stopping: ["down", "server stopping", (s) => ""], down: ["down", "no server", (s) => "no server"],
};
function shade(kind, x, y, w, h, to = pen) {
  if (kind === "down" || kind === "stopping") box(x, y, w, h, color.down, kind === "down" ? 0.26 : 0.12, to);
  else if (kind === "missed") box(x, y, w, h, color.missed, 0.3, to);
  else if (kind === "ghost") stroke([[x, y + h / 2], [x + w, y + h / 2]], color.bad, 1.5, 0.8, [2, 3], to);
  else { box(x, y, w, h, color[kind], 0.07, to); box(x, y, w, h, hatch(kind, to), 0.55, to); }
}

/** Signs of single events; whatever has none here is a diamond. */
const SIGNS = {
  Connected: ["read", "connected", (p, x, y) => { p.arc(x, y, 4, 0, 7); }, true],
  Refused: ["bad", "refused", (p, x, y) => { p.arc(x, y, 4, 0, 7); p.moveTo(x - 3, y + 3); p.lineTo(x + 3, y - 3); }],
  SentEnd: ["sent", "sent its end", (p, x, y) => { p.moveTo(x - 5, y - 3); p.lineTo(x, y - 9); p.lineTo(x + 5, y - 3); p.closePath(); }, true],
  Reset: ["bad", "broke", (p, x, y) => { for (const d of [-4, 4]) { p.moveTo(x - 4, y - d); p.lineTo(x + 4, y + d); } }],
  Dropped: ["bad", "killed", (p, x, y) => { p.moveTo(x - 5, y); p.lineTo(x + 5, y); p.moveTo(x, y - 5); p.lineTo(x, y + 5); }],
  ReceivedEnd: ["read", "received the end", (p, x, y) => { p.rect(x - 3.5, y - 3.5, 7, 7); }, true],
  ReceivedError: ["bad", "error", (p, x, y) => { p.rect(x - 4, y - 4, 8, 8); for (const d of [-2, 2]) { p.moveTo(x - 2, y - d); p.lineTo(x + 2, y + d); } }],
  Started: ["read", "server started", (p, x, y) => { p.moveTo(x - 3, y - 5); p.lineTo(x + 5, y); p.lineTo(x - 3, y + 5); p.closePath(); }, true],
  Stopping: ["down", "asked to end", (p, x, y) => { p.rect(x - 4, y - 4, 8, 8); }],
  Stopped: ["down", "server ended", (p, x, y) => { p.rect(x - 4, y - 4, 8, 8); }, true],
  Crashed: ["bad", "server crashed", (p, x, y) => { for (const d of [-5, 5]) { p.moveTo(x - 5, y - d); p.lineTo(x + 5, y + d); } }],
};
const OTHER = ["act", "other", (p, x, y) => { p.moveTo(x, y - 5); p.lineTo(x + 5, y); p.lineTo(x, y + 5); p.lineTo(x - 5, y); p.closePath(); }, true];
function sign(of, x, y, to = pen) {
  const [tint, , trace, isFull] = SIGNS[of] ?? OTHER;
  to.beginPath(); trace(to, x, y);
  to.lineWidth = 4.5; to.strokeStyle = color.panel; to.stroke();
  to.lineWidth = 1.9; to.strokeStyle = to.fillStyle = color[tint];
  if (isFull) to.fill(); else if (of !== "Reset" && of !== "Crashed") { to.save(); to.fillStyle = color.panel; to.fill(); to.restore(); }
  to.stroke();
}
function flag(x, y, to = pen) {
  stroke([[x + 0.5, y], [x + 0.5, y + 13]], color.act, 1.3, 1, [], to);
  to.beginPath(); to.moveTo(x, y); to.lineTo(x + 8, y + 3.5); to.lineTo(x, y + 7); to.closePath(); to.fillStyle = color.act; to.fill();
}
const isTick = (event) => ["Sent", "Received", "Pause", "Resume"].includes(name(event));

function pathOf(n) {
  const line = lines[n], at = roomAt[n] === null ? null : [toX(roomAt[n]), base(0)], pieces = [];
  if (line[SENT] !== null) {
    const from = [toX(pos[line[SENT]]), base(events[line[SENT]][LANE])];
    pieces.push({ n, tint: "sent", a: from, b: at ?? [from[0], from[1] - laneHigh * 0.45] });
  }
  if (at) for (const i of line[READS]) pieces.push({ n, tint: "read", a: at, b: [toX(pos[i]), base(events[i][LANE])] });
  return pieces;
}
function drawPaths(picked, isDim) {
  const low = view[0] - (view[1] - view[0]) * 0.1, far = view[1] + (view[1] - view[0]) * 0.1;
  const seen = inRoom.slice(first(inRoom, low, (n) => roomAt[n]), first(inRoom, far, (n) => roomAt[n]));
  const count = seen.reduce((sum, n) => sum + 1 + lines[n][READS].length, 0);
  drawn = seen.length > PATHS ? [] : seen.flatMap(pathOf);
  if (count > PATHS) drawn = drawn.filter((piece) => piece.tint === "sent");
  const alpha = Math.max(0.1, Math.min(0.5, 40 / drawn.length)) * (isDim ? 0.55 : 1);
  for (const piece of drawn) stroke([piece.a, piece.b], color[piece.tint], 0.8, alpha);
  const pieces = picked.slice(0, 60).flatMap(pathOf);
  for (const piece of pieces) stroke([piece.a, piece.b], color.panel, 4, 0.7);
  for (const piece of pieces) stroke([piece.a, piece.b], color[piece.tint], 1.7);
  return pieces.flatMap(({ a, b }) => [a, b]);
}

function drawGround() {
  box(0, 0, wide, high, color.panel);
  for (let lane = 1; lane < lanes.length; lane += 2) box(0, top(lane), wide, laneHigh, color.lane);
  if (run.healed) { const [a, b] = run.healed.map((t) => toX(place(t))); box(a, AXIS, b - a, high - AXIS, color.healed, 0.75); }
  for (const lane of law?.lanes ?? []) if (lane < lanes.length) box(0, top(lane), wide, laneHigh, color.bad, 0.09);
  for (const s of spans) {
    const a = toX(pos[s.from]), b = Math.max(a + 2, toX(s.to === null ? END : pos[s.to]));
    if (b < GUTTER || a > wide) continue;
    if (s.lane === 0) shade(s.kind, a, AXIS, b - a, high - AXIS);
    else shade(s.kind, a, top(s.lane) + 3, b - a, laneHigh - 6);
  }
  for (const [from, to] of gaps) {
    const mid = (toX(from) + toX(to)) / 2;
    if (toX(to) - toX(from) < 9) continue;
    box(mid - 3, AXIS, 6, high - AXIS, color.paper);
    for (const d of [-3, 3]) stroke([[mid + d, AXIS], [mid + d, high]], color.rule, 1);
  }
}
function drawAxis() {
  box(0, 0, wide, AXIS, color.panel);
  stroke([[0, AXIS - 0.5], [wide, AXIS - 0.5]], color.rule);
  const taken = [];
  const free = (a, b) => taken.every(([c, d]) => b < c || a > d) && taken.push([a, b]);
  for (const [from, to, long] of gaps) {
    const mid = (toX(from) + toX(to)) / 2;
    if (mid < GUTTER || toX(to) - toX(from) < 9) continue;
    for (const d of [-3, 3]) stroke([[mid + d - 2.5, AXIS + 1], [mid + d + 2.5, AXIS - 11]], color.ink, 1.3);
    if (free(mid - 24, mid + 24)) write(span(long), mid, 9, color.faint, "italic 11px " + SANS, "center");
  }
  const [low, far] = view.map(time);
  for (let unit = 1e8; unit >= 1; unit /= 10) {
    for (const level of [unit, unit / 2]) {
      if (level < 1 || (far - low) / level > 4000) return;
      for (let t = Math.ceil(low / level) * level; t <= far; t += level) {
        const x = toX(place(t));
        if (x < GUTTER || !free(x - 36, x + 36)) continue;
        const digits = Math.max(0, Math.ceil(-Math.log10(level / 1e6) - 1e-9));
        stroke([[x, AXIS - 7], [x, AXIS]], color.faint);
        stroke([[x, AXIS], [x, high]], color.rule, 1, 0.6);
        write((t / 1e6).toFixed(digits) + " s", x, 12, color.faint, "11px " + SANS, "center");
      }
    }
  }
}
function drawRoom() {
  const most = Math.max(run.backlog_bytes, ...run.samples.map((s) => s[1]));
  if (run.samples.some((s) => s[1] > 0)) {
    const floor = AXIS + ROOM - 1, y = (held) => floor - 22 * held / most;
    pen.beginPath(); pen.moveTo(toX(place(run.samples[0][0])), floor);
    let before = floor;
    for (const [t, held] of run.samples) { const x = toX(place(t)); pen.lineTo(x, before); before = y(held); pen.lineTo(x, before); }
    pen.lineTo(toX(END), before); pen.lineTo(toX(END), floor);
    pen.globalAlpha = 0.35; pen.fillStyle = color.missed; pen.fill(); pen.globalAlpha = 1;
  }
  stroke([[GUTTER, base(0)], [toX(END), base(0)]], color.room, 1, 0.5);
  let before = -99;
  for (const n of inRoom) {
    const x = toX(roomAt[n]);
    if (x < GUTTER || x > wide) continue;
    const isSaid = lines[n][SENT] !== null, tall = isSaid ? 6 : 4;
    stroke([[x, base(0) - tall], [x, base(0) + tall]], isSaid ? color.room : color.faint, 1.4, found?.has(lines[n][SAYS]) ?? true ? 0.85 : 0.15);
    const number = String(lines[n][PLACE]);
    if (x - before > 8 + 7 * number.length) { write(number, x, base(0) - 13, color.faint, "10px " + SANS, "center"); before = x; }
  }
}
/** What is on the screen of a lane. */
function visible(row) {
  const edge = (px) => first(row, fromX(px), (i) => pos[i]);
  return row.slice(edge(GUTTER - 8), edge(wide + 8));
}
/** Words go only where nothing else is: whatever stands in a lane takes its place here first. */
function claims() {
  const taken = [];
  return (x, y, w, h = 12, isSign = false) => {
    const isFree = isSign || taken.every((t) => x + w < t[0] || x > t[0] + t[2] || y + h <= t[1] || y >= t[1] + t[3]);
    if (isFree) taken.push([x, y, w, h]);
    return isFree;
  };
}
function drawLane(lane) {
  const y = base(lane), reach = laneHigh / 2 - 3, shown = visible(rows[lane]), claim = claims();
  for (const [from, to] of lives[lane]) stroke([[toX(pos[from]), y], [toX(to === null ? END : pos[to]), y]], color.faint, 1.2, 0.75);
  const signs = shown.filter((i) => !isAct(events[i]) && !isTick(events[i]));
  for (const i of signs) claim(toX(pos[i]) - 7, y - 8, 14, 16, true);
  drawFlags(shown, top(lane) + 2, claim);
  const ticks = [["Sent", -1], ["Received", 1]].map(([of, way]) => [way, color[way < 0 ? "sent" : "read"], shown.filter((i) => name(events[i]) === of)]);
  for (const [way, tint, own] of ticks) {
    const columns = new Map();
    for (const i of own) {
      const x = Math.round(toX(pos[i])), column = columns.get(x) ?? [0, false];
      columns.set(x, [column[0] + 1, column[1] || (lit?.has(i) ?? true)]);
    }
    const short = Math.max(5, laneHigh * 0.13);
    for (const [x, [count, isLit]] of columns) {
      stroke([[x, y], [x, y + way * Math.min(reach, short * (1 + 0.4 * Math.log2(count)))]], tint, 1.5, isLit ? 0.9 : 0.15);
    }
  }
  for (const i of shown.filter((i) => missedAt.has(i))) {
    const x = toX(pos[i]), words = "−" + missedAt.get(i);
    pen.font = "bold 11px " + SANS;
    if (claim(x - 2, y + reach - 11, pen.measureText(words).width + 8)) write(words, x + 3, y + reach - 5, color.missed, pen.font);
  }
  for (const s of spans) { // their names, where there is room
    if (s.lane === lane) caption(s, top(lane) + laneHigh - 9, claim);
  }
  // What was said and received can be read where events are far apart.
  if (laneHigh >= 26 && toX(step) - toX(0) > 4) {
    for (const [way, tint, own] of ticks) own.forEach((i, k) => {
      const x = toX(pos[i]) + 4, most = Math.min(320, (k + 1 < own.length ? toX(pos[own[k + 1]]) : wide) - x - 5);
      pen.font = "10px " + MONO;
      const text = texts[events[i][TEXT]], long = Math.min(most, pen.measureText(text).width), at = y + way * Math.max(8, laneHigh * 0.14);
      if ((most > 60 || long < most) && (lit?.has(i) ?? true) && claim(x, at - 6, long)) write(text, x, at, tint, pen.font, "left", most);
    });
  }
  for (const i of signs) sign(name(events[i]), toX(pos[i]), y);
}
function caption(s, y, claim) {
  const a = Math.max(GUTTER, toX(pos[s.from])), b = Math.min(wide, toX(s.to === null ? END : pos[s.to])), words = SPANS[s.kind][2](s);
  pen.font = "italic 10px " + SANS;
  const long = pen.measureText(words).width;
  if (words && laneHigh >= 24 && b - a > long + 16 && claim((a + b - long) / 2, y - 6, long)) {
    write(words, (a + b) / 2, y, color[SPANS[s.kind][0]], pen.font, "center");
  }
}
function drawFlags(shown, y, claim) {
  const acts = shown.filter((i) => isAct(events[i]));
  for (const i of acts) claim(toX(pos[i]) - 1, y, 10, 13, true);
  for (const i of acts) {
    const x = toX(pos[i]), words = name(events[i]) + (events[i][BYTES] ? " " + texts[events[i][TEXT]] : "");
    flag(x, y);
    pen.font = "10px " + SANS;
    if (laneHigh >= 22 && claim(x + 10, y, pen.measureText(words).width + 2, 11)) write(words, x + 11, y + 5, color.act, pen.font);
  }
}
function drawGutter() {
  box(0, AXIS, GUTTER, high - AXIS, color.panel);
  for (let lane = 0; lane < lanes.length; lane++) {
    const { name, about, is_core } = lanes[lane], y = lane === 0 ? AXIS + 26 : base(lane), isBad = law?.lanes.includes(lane);
    if (lane % 2) box(0, top(lane), GUTTER, laneHigh, color.lane);
    if (isBad) { box(0, top(lane), GUTTER, laneHigh, color.badwash); box(0, top(lane), 4, laneHigh, color.bad); }
    const after = 12 + write(name, 12, y, isBad ? color.bad : color.ink, "600 12.5px " + SANS);
    write(about, after + 6, y, color.faint, "10px " + SANS);
    if (is_core) { pen.beginPath(); pen.arc(GUTTER - 9, y, 2.5, 0, 7); pen.fillStyle = color.read; pen.fill(); }
    if (lane === 0 && run.samples.some((s) => s[1] > 0)) write("bytes held", 12, AXIS + ROOM - 11, color.faint, "10px " + SANS);
  }
  stroke([[GUTTER - 0.5, AXIS], [GUTTER - 0.5, high]], color.rule);
  stroke([[0, AXIS + ROOM - 0.5], [wide, AXIS + ROOM - 0.5]], color.rule);
}
function draw() {
  const isDim = found !== null, what = printing ? kept : hover ?? kept;
  pen.save(); pen.beginPath(); pen.rect(0, 0, wide, high); pen.clip();
  drawGround();
  drawAxis();
  pen.beginPath(); pen.rect(GUTTER, AXIS, wide, high); pen.clip();
  const looked = isDim ? inRoom.filter((n) => found.has(lines[n][SAYS])).slice(0, 40) : [];
  const stops = drawPaths([...looked, ...linesOf(what)], isDim || what !== null);
  drawRoom();
  for (let lane = 1; lane < lanes.length; lane++) drawLane(lane);
  const claim = claims(), shown = visible(rows[0]);
  drawFlags(shown, AXIS + 3, claim);
  for (const i of shown) if (!isAct(events[i])) sign(name(events[i]), toX(pos[i]), base(0));
  for (const s of spans) if (s.lane === 0) caption(s, AXIS + ROOM - 8, claim);
  if (law && law.at !== null) stroke([[toX(place(law.at)), AXIS], [toX(place(law.at)), high]], color.bad, 1.4, 0.9, [5, 3]);
  if (pointer && !printing) stroke([[pointer, AXIS], [pointer, high]], color.pick, 1, 0.35);
  for (const [x, y] of stops) {
    pen.beginPath(); pen.arc(x, y, 3.4, 0, 7);
    pen.fillStyle = color.pick; pen.fill(); pen.lineWidth = 1.2; pen.strokeStyle = color.panel; pen.stroke();
  }
  if (what && what.event !== undefined) {
    const [x, y] = [toX(pos[what.event]), base(events[what.event][LANE])];
    pen.beginPath(); pen.arc(x, y, 8, 0, 7); pen.lineWidth = 2; pen.strokeStyle = color.pick; pen.stroke();
  }
  pen.restore();
  drawGutter();
  if (pointer && !printing) {
    const at = seconds(Math.round(time(fromX(pointer)))), x = Math.min(wide - 46, Math.max(GUTTER + 46, pointer));
    box(x - 45, 2, 90, 19, color.pick);
    write(at, x, 12, color.panel, "600 11px " + SANS, "center");
  }
}

// Words beside the picture. Whatever came from a run is text, never markup.

function add(to, tag, text = "", kind = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  to.append(made);
  return made;
}
function choices(to, title, list, most = 40) {
  if (!list.length) return;
  add(to, "h3", title);
  const ol = add(to, "ol");
  for (const [words, what] of list.slice(0, most)) add(add(ol, "li"), "button", words, "mono").onclick = () => keep(what, true);
  if (list.length > most) add(ol, "li", "and " + some(list.length - most, "more").replace(/s$/, ""));
}
const lay = (text) => text.replace(/((?:^|[^\\])(?:\\\\)*\\n)(?!$)/g, "$1\n");
function describe() {
  const what = hover ?? kept, to = by("detail");
  to.textContent = "";
  if (what === null) {
    add(to, "h2", "Nothing chosen");
    add(to, "p", "Point at an event for its bytes, or at a mark in the room's lane for a line's whole way.");
  } else if (what.event !== undefined) {
    const event = events[what.event];
    add(to, "h2", lanes[event[LANE]].name + " " + (isAct(event) ? "plan: " + name(event) : (SIGNS[name(event)]?.[1] ?? name(event).toLowerCase())));
    add(to, "p", seconds(event[AT]) + (["Sent", "Received"].includes(name(event)) ? ", " + some(event[BYTES], "byte") : ""), "mono");
    if (missedAt.has(what.event)) add(to, "p", "It was let go, and told that it missed " + missedAt.get(what.event) + ".");
    if (event[BYTES]) add(to, "pre", lay(texts[event[TEXT]]) + (event[BYTES] > 4096 ? "\n… (cut)" : ""));
    const own = ofEvent[what.event];
    choices(to, some(own.length, "line") + " of it", own.map((n) => [(lines[n][PLACE] ?? "not seen") + "  " + texts[lines[n][SAYS]], { line: n }]));
  } else {
    const line = lines[what.line], sent = line[SENT];
    add(to, "h2", line[PLACE] === null ? "A line that nobody received" : "Line at place " + line[PLACE] + (line[LIFE] ? ", life " + line[LIFE] : ""));
    add(to, "pre", texts[line[SAYS]]);
    if (sent !== null) choices(to, "sent", [[lanes[line[WHOSE]].name.padEnd(5) + seconds(events[sent][AT]), { event: sent }]]);
    const absent = without(what.line).map((lane) => lanes[lane].name);
    if (absent.length) add(to, "p", "Not received by " + absent.join(", ") + ".", "absent");
    const since = (i) => sent === null ? "" : "  +" + span(events[i][AT] - events[sent][AT]);
    choices(to, "received by " + line[READS].length, line[READS].map((i) => [lanes[events[i][LANE]].name.padEnd(5) + seconds(events[i][AT]) + since(i), { event: i }]), 60);
  }
}
function keep(what, isMoving = false) {
  [kept, hover] = [what, null];
  describe();
  if (what && isMoving) show(what.event !== undefined ? pos[what.event] : roomAt[what.line] ?? pos[lines[what.line][SENT]]); else draw();
}
/** Who was there when the line came to the room, and did not receive it. */
function without(n) {
  const has = new Set([...lines[n][READS].map((i) => events[i][LANE]), lines[n][SENT] === null ? lines[n][WHOSE] : 0]);
  const isThere = ([from, to]) => pos[from] < roomAt[n] && (to === null || pos[to] > roomAt[n]);
  return roomAt[n] === null ? [] : lives.flatMap((own, lane) => !has.has(lane) && own.some(isThere) ? [lane] : []);
}
/** The line that a broken law names, escaped and shortened in the middle; rather one that somebody accused has not received. */
function named({ line, detail, lanes: accused }) {
  const all = [line, ...(detail.match(/"(?:[^"\\]|\\.)*"(?:\.\."(?:[^"\\]|\\.)*")?/g) ?? [])].filter((words) => words).flatMap((words) => {
    const [head, tail] = words.replace(/^"|"$/g, "").split('".."');
    const fits = (text) => (tail === undefined ? text === head : text.startsWith(head) && text.endsWith(tail));
    return lines.flatMap((line, n) => fits(texts[line[SAYS]]) ? [n] : []);
  });
  return all.find((n) => without(n).some((lane) => accused.includes(lane))) ?? all.find((n) => accused.includes(lines[n][WHOSE])) ?? all[0] ?? null;
}
function accuse(chosen, isMoving) {
  law = chosen;
  for (const card of by("laws").children) card.setAttribute("aria-pressed", String(card.law === chosen));
  const n = named(chosen), row = rows[chosen.lanes[0]] ?? [];
  let what = n === null ? null : { line: n };
  if (what === null && row.length) what = { event: row[Math.max(0, first(row, (chosen.at ?? Infinity) + 1, (i) => events[i][AT]) - 1)] };
  keep(what);
  if (!isMoving) return;
  const from = what === null ? place(chosen.at ?? 0) : what.event !== undefined ? pos[what.event] : roomAt[n] ?? pos[lines[n][SENT]];
  look(from - 60 * step, from + 60 * step);
}
function legend() {
  const to = by("legend");
  to.textContent = "";
  const entry = (words, paint) => {
    const span = add(to, "span"), own = add(span, "canvas"), p = own.getContext("2d");
    [own.width, own.height] = [66, 42];
    p.scale(3, 3); paint(p); span.append(words);
  };
  const has = new Set(events.map((e) => (isAct(e) ? "act" : name(e))));
  entry("sent", (p) => stroke([[11, 14], [11, 3]], color.sent, 1.8, 1, [], p));
  entry("received", (p) => stroke([[11, 0], [11, 11]], color.read, 1.8, 1, [], p));
  entry("its place in the room", (p) => { stroke([[0, 7], [22, 7]], color.room, 1, 0.5, [], p); stroke([[11, 1], [11, 13]], color.room, 1.6, 1, [], p); });
  for (const of of Object.keys(SIGNS)) if (has.has(of)) entry(SIGNS[of][1], (p) => sign(of, 11, of === "SentEnd" ? 12 : 7, p));
  if (has.has("act")) entry("act of the plan", (p) => flag(8, 1, p));
  const kinds = new Set(spans.map((s) => s.kind));
  for (const [kind, [, words]] of Object.entries(SPANS)) if (kinds.has(kind)) entry(words, (p) => shade(kind, 0, 1, 22, 12, p));
  if (run.healed) entry("healed", (p) => box(0, 1, 22, 12, color.healed, 1, p));
  if (run.healed) entry("healed client", (p) => { p.beginPath(); p.arc(11, 7, 2.6, 0, 7); p.fillStyle = color.read; p.fill(); });
  if (run.samples.some((s) => s[1] > 0)) entry("bytes held, up to " + run.backlog_bytes.toLocaleString("en"), (p) => box(0, 4, 22, 9, color.missed, 0.35, p));
}

// What one does with it.

function under(px, py) {
  if (px < GUTTER || py < AXIS) return null;
  const lane = py < AXIS + ROOM ? 0 : Math.min(lanes.length - 1, 1 + Math.floor((py - AXIS - ROOM) / laneHigh));
  const x = fromX(px);
  const near = (list, at) => {
    const k = first(list, x, at), best = [list[k - 1], list[k]].filter((i) => i !== undefined).sort((a, b) => Math.abs(at(a) - x) - Math.abs(at(b) - x))[0];
    return best !== undefined && Math.abs(toX(at(best)) - px) < 7 ? best : null;
  };
  const event = near(rows[lane], (i) => pos[i]);
  const line = lane === 0 ? near(inRoom, (n) => roomAt[n]) : null;
  if (line !== null && (event === null || py > AXIS + 18)) return { line };
  if (event !== null) return { event };
  for (const { n, a, b } of drawn) {
    const [dx, dy] = [b[0] - a[0], b[1] - a[1]], along = ((px - a[0]) * dx + (py - a[1]) * dy) / (dx * dx + dy * dy || 1);
    if (along > 0 && along < 1 && Math.hypot(a[0] + along * dx - px, a[1] + along * dy - py) < 3) return { line: n };
  }
  return null;
}
let grip = null;
canvas.onpointerdown = (e) => { grip = { x: e.offsetX, view: [...view], moved: false }; canvas.setPointerCapture(e.pointerId); };
canvas.onpointermove = (e) => {
  pointer = e.offsetX > GUTTER ? e.offsetX : null;
  if (grip && Math.abs(e.offsetX - grip.x) > 3) grip.moved = true;
  if (grip?.moved) {
    const by = (grip.x - e.offsetX) / (wide - GUTTER - 12) * (view[1] - view[0]);
    return look(grip.view[0] + by, grip.view[1] + by);
  }
  const before = JSON.stringify(hover);
  hover = under(e.offsetX, e.offsetY);
  if (JSON.stringify(hover) !== before) describe();
  draw();
};
canvas.onpointerup = (e) => { const moved = grip?.moved; grip = null; if (!moved) keep(under(e.offsetX, e.offsetY)); };
canvas.onpointerleave = () => { [pointer, hover] = [null, null]; describe(); draw(); };
canvas.ondblclick = (e) => zoom(0.4, fromX(e.offsetX));
canvas.addEventListener("wheel", (e) => {
  e.preventDefault();
  const long = view[1] - view[0], aside = e.shiftKey ? e.deltaY : e.deltaX;
  if (Math.abs(aside) > Math.abs(e.shiftKey ? 0 : e.deltaY)) look(view[0] + long * aside / 900, view[1] + long * aside / 900);
  else zoom(Math.exp(e.deltaY / 500), fromX(e.offsetX));
}, { passive: false });
canvas.onkeydown = (e) => {
  const now = kept?.event ?? (kept && lines[kept.line][READS][0]) ?? null, row = now === null ? rows.find((r) => r.length) : rows[events[now][LANE]];
  const go = (i) => i !== undefined && keep({ event: i }, true);
  const lift = (way) => {
    for (let lane = events[now][LANE] + way; lane >= 0 && lane < lanes.length; lane += way) {
      const row = rows[lane], k = first(row, pos[now], (i) => pos[i]);
      if (row.length) return go([row[k - 1], row[k]].filter((i) => i !== undefined).sort((a, b) => Math.abs(pos[a] - pos[now]) - Math.abs(pos[b] - pos[now]))[0]);
    }
  };
  const keys = {
    ArrowLeft: () => go(now === null ? row?.[0] : row[row.indexOf(now) - 1]), ArrowRight: () => go(now === null ? row?.[0] : row[row.indexOf(now) + 1]),
    ArrowUp: () => now === null ? go(row?.[0]) : lift(-1), ArrowDown: () => now === null ? go(row?.[0]) : lift(1),
    Home: () => go(row?.[0]), End: () => go(row?.[row.length - 1]), Escape: () => keep(null),
    "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), "0": () => look(0, END),
  };
  if (keys[e.key] && !e.ctrlKey && !e.metaKey) { e.preventDefault(); keys[e.key](); }
};
by("in").onclick = () => zoom(0.6);
by("out").onclick = () => zoom(1 / 0.6);
by("fit").onclick = () => look(0, END);
by("filter").oninput = ({ target }) => {
  const looked = target.value.toLowerCase();
  found = looked ? new Set(texts.map((_, t) => t).filter((t) => texts[t].toLowerCase().includes(looked))) : null;
  lit = found && new Set(events.map((_, i) => i).filter((i) => found.has(events[i][TEXT]) || ofEvent[i].some((n) => found.has(lines[n][SAYS]))));
  by("found").value = found ? some(lines.filter((line) => found.has(line[SAYS])).length, "line") : "";
  draw();
};
by("filter").onkeydown = (e) => {
  if (e.key !== "Enter" || !found) return;
  const all = inRoom.filter((n) => found.has(lines[n][SAYS]));
  if (all.length) keep({ line: all[(all.indexOf(kept?.line) + 1) % all.length] }, true);
};
function print(isOn) {
  const [before, now] = [view, printing];
  if (now === isOn) return;
  printing = isOn;
  document.documentElement.classList.toggle("print", isOn);
  view = isOn ? [0, END] : print.view;
  print.view = before;
  resize();
}
window.onbeforeprint = () => print(true);
window.onafterprint = () => print(false);
window.onresize = () => printing || resize();
matchMedia("(prefers-color-scheme: dark)").onchange = resize;

document.querySelector("h1").textContent = run.title;
const last = Math.max(0, ...events.map((e) => e[AT])), said = lines.filter((line) => line[PLACE] !== null).length;
by("summary").textContent = [some(lanes.length - 1, "client"), some(events.length, "event"), some(said, "line") + " of the room",
  spans.filter((s) => s.kind === "missed").length + " let-gos", span(last) + " of simulated time"].join(" · ");
run.about.forEach((words) => add(by("about").querySelector("ul"), "li", words));
by("about").hidden = !run.about.length;
for (const one of broken) {
  const card = add(by("laws"), "button");
  card.law = one;
  add(card, "i", [one.lanes.map((l) => lanes[l]?.name ?? "?").join(" "), one.at === null ? "" : seconds(one.at)].filter(Boolean).join("  ·  "), "where");
  add(card, "b", one.invariant);
  card.append("law: " + one.law);
  add(card, "span", one.detail);
  if (one.line) add(card, "code", one.line);
  card.onclick = () => { accuse(one, true); canvas.focus(); };
}
if (!broken.length) {
  const counts = Object.entries(run.counts ?? {}).map(([of, n]) => n + " " + of).join(", ");
  add(by("laws"), "p", run.counts ? "Every law was kept: " + (counts || "nothing was said") + "." : "No verdict.", "kept");
}
resize();
if (broken.length) accuse(broken[0], false); else keep(null);
document.documentElement.dataset.ready = `lanes=${lanes.length};events=${events.length}`;
