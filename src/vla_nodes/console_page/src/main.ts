// SPDX-License-Identifier: Apache-2.0
import { Connection, openSession } from "./connection";
import { Recorded } from "./episodes";
import { Hand } from "./hand";
import { Question } from "./help";
import type { Arm, Happening, Picture, Robot, Seat, Snapshot } from "./protocol";
import { Score } from "./score";

const HOLD_PERIOD = 25; // ms between two words of a hand that holds
const ALERT = 6000; // ms
const CLOSING = 2500; // ms that a recorder mostly takes to finish an episode
const REFRESH = 15000; // ms

function at<T extends HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

const connection = new Connection();
const hand = new Hand(at("pad-plane"), at("pad-height"), at("hold"));
const score = new Score(at<HTMLCanvasElement>("score"));
const question = new Question(at("help"));
const recorded = new Recorded((text) => alertWith(text));
let seat: Seat = "free";
let holds = false;
let lastEvent = 0;
let alertTimer = 0;

function alertWith(text: string): void {
  at("alert").textContent = text;
  at("alert").hidden = !text;
  clearTimeout(alertTimer);
  if (text) alertTimer = window.setTimeout(() => alertWith(""), ALERT);
}

// --- what the robot says ---------------------------------------------------------------------------

function show({ seat: mine, robot }: Snapshot): void {
  seat = mine;
  const owner = robot.owner;
  const state = !connection.open || owner?.silent ? "LOST" : (owner?.state ?? "…");
  at("state").textContent = state;
  at("state").className = `badge ${state}`;
  at("reason").textContent = owner?.silent ? "the supervisor is silent" : (owner?.reason ?? "waits for the supervisor");
  const slow = owner?.speed != null && owner.speed < 1 ? `, at ${Math.round(100 * owner.speed)} % of its speed` : "";
  at("instruction").textContent = owner?.instruction ? owner.instruction + slow : "";
  at<HTMLButtonElement>("instruct").hidden = !owner?.episode;
  const button = at<HTMLButtonElement>("seat");
  button.textContent = { mine: "Leave the seat", taken: "Somebody else operates", free: "Take the seat" }[seat];
  button.disabled = seat === "taken";
  at("takeover").classList.toggle("off", seat !== "mine");
  for (const one of document.querySelectorAll<HTMLButtonElement>("#task button, #help button")) one.disabled = seat !== "mine";
  if (robot.problem) alertWith(robot.problem);
  question.show(robot.help, owner?.grant ?? 0);
  if (robot.arm) showArm(robot.arm, robot);
  if (robot.failure) {
    if (score.add(robot.failure)) score.draw();
    at("verdict").textContent = `${robot.failure.verdict}${robot.failure.calibrated ? "" : " (uncalibrated)"} ${robot.failure.reason}`;
  }
  for (const figure of document.querySelectorAll<HTMLElement>("#cameras figure"))
    if (!robot.cameras?.includes(figure.dataset.camera ?? "")) figure.remove();
}

function showArm(arm: Arm, robot: Robot): void {
  const digits = (values: (number | null)[], unit: string, many: number) =>
    `${values.map((v) => (v === null ? "–" : v.toFixed(many))).join("  ")} ${unit}`;
  const rows: [string, string][] = [
    ["controller", `${arm.phase}${arm.contact ? ", in contact" : ""}${arm.compliant ? "" : ", not compliant"}`],
    ["tool", digits(arm.position, "m", 3)],
    ["turned", digits(arm.angles, "°", 0)],
    ["speed", digits([arm.speed], "m/s", 3)],
    ["force", digits(arm.force, "N", 1)],
    ["torque", digits(arm.torque, "Nm", 2)],
    ["gripper", arm.opening === null ? "–" : digits([1000 * arm.opening], "mm", 0)],
    ["control", robot.holds ? "this console" : (robot.owner?.owner ?? "–").toLowerCase()],
    ["round trip", Number.isNaN(connection.roundTrip) ? "–" : `${connection.roundTrip.toFixed(0)} ms`],
  ];
  at("robot").replaceChildren(
    ...rows.flatMap(([name, value]) => {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }),
  );
}

function tell(one: Happening): void {
  if (one.number <= lastEvent) return; // the connection is a new one
  lastEvent = one.number;
  if (one.kind === "END") setTimeout(() => void recorded.refresh(), CLOSING);
  const line = document.createElement("li");
  const real = one.time > 1e9; // not of a simulated clock
  const time = real ? new Date(1000 * one.time).toLocaleTimeString([], { hour12: false }) : one.time.toFixed(1);
  for (const text of [time, one.kind, one.text]) {
    const part = document.createElement("span");
    part.textContent = text;
    line.append(part);
  }
  at("events").prepend(line);
  while (at("events").childElementCount > 100) at("events").lastElementChild?.remove();
}

function look({ camera, taken, jpeg }: Picture): void {
  const id = `camera-${camera}`;
  let figure = document.getElementById(id);
  if (!figure) {
    figure = document.createElement("figure");
    figure.id = id;
    figure.dataset.camera = camera;
    const caption = document.createElement("figcaption");
    caption.append(document.createElement("span"), document.createElement("span"));
    caption.firstElementChild!.textContent = camera.replace(/^\/(cameras\/)?/, "").replace(/\/image_raw.*$/, "");
    figure.append(document.createElement("img"), caption);
    const after = [...at("cameras").children].find((other) => other.id > id);
    at("cameras").insertBefore(figure, after ?? null);
  }
  const image = figure.querySelector("img")!;
  const address = URL.createObjectURL(jpeg);
  image.onload = () => {
    URL.revokeObjectURL(address);
    connection.send({ kind: "shown", camera });
    requestAnimationFrame(() => {
      const age = Date.now() + connection.ahead - taken;
      figure.dataset.age = age.toFixed(1);
      figure.querySelector("figcaption")!.lastElementChild!.textContent = Number.isNaN(age) ? "" : `${age.toFixed(0)} ms`;
    });
  };
  image.onerror = () => {
    URL.revokeObjectURL(address);
    connection.send({ kind: "shown", camera });
  };
  image.alt = `what the camera ${camera} sees`;
  image.src = address;
}

// --- what the operator does ------------------------------------------------------------------------

function command(kind: string, more: object = {}): void {
  connection.send({ kind, ...more });
}

function step(): void {
  const asks = document.hidden || !document.hasFocus() ? null : hand.asks();
  if (seat === "mine" && asks) {
    holds = true;
    const share = Number(at<HTMLInputElement>("share").value) / 100;
    command("hold", {
      time: performance.now(),
      twist: asks.twist.map((v) => v * share),
      opening: asks.opening,
      frame: at<HTMLInputElement>("tool").checked ? "tool" : "base",
    });
  } else if (holds) {
    holds = false;
    command("let_go");
  }
  hand.draw(holds);
}

/** The page cannot be seen or heard: it says nothing more, and the arm holds. */
function lose(): void {
  hand.drop();
  holds = false;
  hand.draw(false);
}

hand.onChange = step;
at("stop").addEventListener("click", () => command("stop"));
at("seat").addEventListener("click", () => command(seat === "mine" ? "stand" : "sit"));
at("open").addEventListener("click", () => hand.grip(1));
at("close").addEventListener("click", () => hand.grip(0));
function sends(field: string, button: string, kind: string): void {
  const send = () => {
    command(kind, { text: at<HTMLInputElement>(field).value });
    at<HTMLInputElement>(field).value = "";
  };
  at(button).addEventListener("click", send);
  at(field).addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    send();
  });
}
sends("note", "write", "note");
sends("correction", "correct", "correct");
at("invite").addEventListener("click", async () => {
  const answer = (await (await fetch("invitation", { method: "POST" })).json()) as { address?: string; error?: string };
  prompt(answer.error ?? "Opens the console once, for somebody else:", answer.address ?? "");
});
at("task").addEventListener("submit", (event) => {
  event.preventDefault();
  const limit = Number(at<HTMLInputElement>("limit").value);
  command("start", { instruction: at<HTMLInputElement>("words").value, task: "", time_limit: limit });
});
at("instruct").addEventListener("click", () => command("instruct", { instruction: at<HTMLInputElement>("words").value }));
at("instead").addEventListener("click", () => command("instead", { instruction: at<HTMLInputElement>("other").value }));
for (const button of document.querySelectorAll<HTMLButtonElement>("[data-command]"))
  button.addEventListener("click", () => command(button.dataset.command ?? ""));
addEventListener("blur", lose);
addEventListener("pagehide", lose);
document.addEventListener("visibilitychange", () => document.hidden && lose());

connection.onSnapshot = show;
connection.onCourse = (course) => score.begin(course);
connection.onPicture = look;
connection.onEvent = tell;
connection.onError = alertWith;
connection.onChange = () => {
  if (connection.open) void recorded.refresh();
  else {
    lose();
    at("state").textContent = "LOST";
    at("state").className = "badge LOST";
    at("reason").textContent = "the connection is lost: this page neither sees nor commands the robot";
  }
};
setInterval(step, HOLD_PERIOD);
setInterval(() => connection.open && !document.hidden && void recorded.refresh(), REFRESH);
score.draw();
addEventListener("resize", () => score.draw());

const problem = await openSession();
if (problem) alertWith(problem);
else connection.connect();
